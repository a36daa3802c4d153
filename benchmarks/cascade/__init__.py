"""What cascade-explore claims, measured."""
