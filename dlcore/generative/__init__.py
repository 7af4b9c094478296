"""Deep generative models: objectives, bounds and samplers over networks handed in as arguments (lecture 22–29)."""
