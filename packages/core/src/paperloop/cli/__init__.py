"""Command lines of packages: sub-commands whose options are generated from settings.

A package's `cli.py` in full:

    app = App("my-method", "Trains and evaluates my method.")

    @app.command(options=RunOptions, config=TrainConfig, presets=PRESETS, essentials=("env_id", "updates"))
    def train(options: RunOptions, config: TrainConfig) -> None:
        '''Train a policy.'''
        start_jax(options.device)
        from my_method.trainer import Trainer  # only now: `--help` must not wait for jax

        paperloop.run(Trainer(config), options.out, steps=config.steps, **options.run_arguments())

    main = app.main  # [project.scripts] my-method = "my_method.cli:main"
"""

from paperloop.cli.app import App
from paperloop.cli.devices import Device, select_device, start_jax
from paperloop.cli.options import Positional
from paperloop.cli.run_options import DemoOptions, RunOptions, SinkName

__all__ = ["App", "DemoOptions", "Device", "Positional", "RunOptions", "SinkName", "select_device", "start_jax"]
