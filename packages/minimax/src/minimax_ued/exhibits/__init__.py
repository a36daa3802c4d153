"""What a person looks at: pictures of levels and episodes, and curves of what a run trained on."""
