"""Scenarios on published input that `troth demo NAME` runs on a network."""
