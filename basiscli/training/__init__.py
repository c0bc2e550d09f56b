"""Training networks of many seeds at once: recipes, images, steps, evaluation."""
