"""From verified responses to preference pairs, critiques and the selection of what is trained on."""
