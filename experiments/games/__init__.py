"""The amazon-games dataset: real purchase histories, with queries derived from titles."""
