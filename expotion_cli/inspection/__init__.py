"""What the encoders saw in a clip, as a picture and as a record; the way is observe → lanes → chart → PNG or SVG."""
