"""The model: quantisers, the autoencoder, the prior, what is learned of each."""
