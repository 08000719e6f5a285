"""How near is everything to the machine's limits? Work beside them, and where the rest goes."""
