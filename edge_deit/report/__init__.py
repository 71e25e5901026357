"""What a validation or a gate found, as data, and each form that it is shown in."""
