"""What text is allowed? Languages, the machines that read them, and draws that obey them."""
