"""What was really served, against what came true; and rollouts that follow from it."""
