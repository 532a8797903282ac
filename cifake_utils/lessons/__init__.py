"""What the lessons measure, draw and play with. Nothing outside this folder imports from it but the command line."""
