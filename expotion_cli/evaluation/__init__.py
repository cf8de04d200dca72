"""How closely music follows its clips, and how it sounds, each beside chance."""
