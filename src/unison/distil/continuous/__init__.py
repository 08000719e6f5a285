"""How do models of continuous data answer in fewer steps, and in more ways?"""
