"""The parts that the configurations of labellers are made of; unions are told apart by `type`."""
