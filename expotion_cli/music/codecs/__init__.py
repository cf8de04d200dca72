"""What tokens mean: from tokens to sound."""
