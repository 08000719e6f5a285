"""How good are samples of continuous data, and what does a model of them know?"""
