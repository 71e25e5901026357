"""The shape of a DeiT, its float form, its deployment form, and the points inside both."""
