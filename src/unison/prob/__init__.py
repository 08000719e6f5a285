"""What is random? Keys, exact categorical draws, truncation, stratified times."""
