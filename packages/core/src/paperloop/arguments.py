"""The command line of a configuration: defaults < preset < file < options, by tyro."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import re
import types
import typing
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from paperloop.config import did_you_mean, field_paths, field_types, load_config, to_dict, union_choices
from paperloop.errors import UserError
from paperloop.option_names import OptionNames, is_optional_bool

__all__ = ["parse_arguments", "parse_config"]

Config = TypeVar("Config")


def parse_config(
    cls: type[Config],
    presets: Mapping[str, Config],
    argv: Sequence[str],
    prog: str,
    description: str,
    *,
    preset_help: Mapping[str, str] | None = None,
    schema: int = 1,
) -> Config:
    """Build a configuration from command-line arguments; see `parse_arguments`."""
    _, config = parse_arguments(
        argv, prog=prog, description=description, config=cls, presets=presets, preset_help=preset_help, schema=schema
    )
    return config


def parse_arguments(
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    options: type | None = None,
    config: type | None = None,
    presets: Mapping[str, Any] | None = None,
    preset_help: Mapping[str, str] | None = None,
    schema: int = 1,
) -> tuple[Any, Any]:
    """Turn command-line arguments into an instance of `options` and one of `config`.

    The configuration starts from its defaults, then from `--preset NAME`, then takes what `--config FILE` holds (a
    saved configuration, a run folder, or a bare JSON object of some fields), then the options given. Where a field is
    one of several dataclasses, `--FIELD.type NAME` chooses which.

    Args:
        argv: the arguments after the command's name.
        prog: the command's name, for the help.
        description: what the command does, for the help.
        options: a dataclass of options beside the configuration, such as where to write.
        config: the dataclass of the configuration.
        presets: name -> configuration.
        preset_help: name -> one line; by default the help says in what a preset differs from the defaults.
        schema: the schema number that files must have.

    Returns:
        The options and the configuration; None for what was not asked for.

    Raises:
        UserError: an argument is unknown (with the nearest known one) or does not fit.
        SystemExit: `--help` was given, and has been printed.
        TypeError: options and configuration have a field of the same name.
    """
    import tyro

    presets = presets or {}
    rest = list(argv)
    base: Any = None
    fields: list[Any] = []
    known = {"help"}
    preset: str | None = None
    if options is not None:
        fields.append(("options", Annotated[options, tyro.conf.arg(name="")]))  # ty: ignore[invalid-type-form]
        known |= set(field_types(options))
    if config is not None:
        clash = (set(field_types(config)) | {"preset", "config"}) & (known - {"help"})
        if clash:
            raise TypeError(f"{config.__name__} and the command's options both have {', '.join(sorted(clash))}")
        base, sources, rest = _layers(config, presets, rest, schema)
        preset = sources["preset"]
        if presets:
            names: Any = Literal[tuple(presets)]  # ty: ignore[invalid-type-form]
            fields.append(_source("preset", names | None, sources["preset"], "start from this preset"))
        fields.append(_source("config", Path | None, sources["config"], "start from this file, or a run's folder"))
        choices: dict[str, list[str]] = {}
        default: Any = dataclasses.field()
        if base is not None:
            base, rest, choices = _choose_types(base, rest)
            default = dataclasses.field(default=base)
        fields.append(("settings", Annotated[config, tyro.conf.arg(name="")], default))  # ty: ignore[invalid-type-form]
        known |= set(field_paths(base or config)) | set(choices) | {"config"} | ({"preset"} if presets else set())
        description = _describe(description, config, presets, preset_help or {}, choices)
    cls = dataclasses.make_dataclass("Arguments", fields, kw_only=True, frozen=True)
    names = OptionNames.of(options, base or config)
    try:
        parsed = _tyro(cls, _flags(rest, names), prog, description, known, preset)
    except UserError as error:
        raise UserError(names.say(str(error))) from error
    result = getattr(parsed, "settings", None)
    if result is not None:
        to_dict(result)  # tyro takes "nan" and "inf" for floats; a configuration does not
    return getattr(parsed, "options", None), result


def _source(name: str, annotation: Any, value: Any, text: str) -> tuple[str, Any, Any]:
    """A field for `--preset` or `--config`, which are read before tyro runs: it is there for the help only."""
    import tyro

    return (f"_{name}", Annotated[annotation, tyro.conf.arg(name=name, help=text)], dataclasses.field(default=value))


def _layers(cls: type, presets: Mapping[str, Any], argv: list[str], schema: int) -> tuple[Any, dict[str, Any], list]:
    """The configuration below the options, what it was made from, and the other arguments."""
    preset, argv = _take(argv, "preset") if presets else (None, argv)
    file, argv = _take(argv, "config")
    if preset is not None and preset not in presets:
        raise UserError(f'there is no preset "{preset}"{did_you_mean(preset, presets)}')
    base = presets[preset] if preset is not None else _default(cls)
    if file is not None:
        base = load_config(cls, file, schema, base=base, partial=True)
    return base, {"preset": preset, "config": None if file is None else Path(file)}, argv


def _default(cls: type) -> Any:
    """The configuration of defaults; None where a field has none, so that the command line must give it."""
    try:
        return cls()
    except TypeError:
        return None


def _take(argv: list[str], name: str) -> tuple[str | None, list[str]]:
    """Take `--name VALUE` or `--name=VALUE` out of the arguments."""
    value, rest, items = None, [], iter(argv)
    for item in items:
        head, equals, tail = item.partition("=")
        if _canonical(head) != f"--{_canonical(name)}":
            rest.append(item)
            continue
        if value is not None:
            raise UserError(f"--{name} is given twice.")
        value = tail if equals else next(items, None)
        if value is None or (not equals and value.startswith("--")):
            raise UserError(f"--{name} needs a value.")
    return value, rest


def _choose_types(config: Any, argv: list[str], prefix: str = "") -> tuple[Any, list[str], dict[str, list[str]]]:
    """Apply `--FIELD.type NAME` to fields that are one of several dataclasses; also return what can be chosen."""
    choices: dict[str, list[str]] = {}
    changes: dict[str, Any] = {}
    for name, hint in field_types(type(config)).items():
        value = getattr(config, name)
        classes = union_choices(hint)
        if classes:
            option = f"{prefix}{name}.type"
            choices[option] = list(classes)
            chosen, argv = _take(argv, option)
            if chosen is not None and chosen not in classes:
                raise UserError(f'--{option} has no choice "{chosen}"{did_you_mean(chosen, classes)}')
            if chosen is not None and type(value) is not (classes[chosen] or type(None)):
                value = None if classes[chosen] is None else classes[chosen]()
        if dataclasses.is_dataclass(value):
            value, argv, deeper = _choose_types(value, argv, f"{prefix}{name}.")
            choices |= deeper
        if value is not getattr(config, name):
            changes[name] = value
    return (dataclasses.replace(config, **changes) if changes else config), argv, choices


def _flags(argv: list[str], names: OptionNames) -> list[str]:
    """Give options of the type `bool | None` the value that they have as flags, so that all flags are alike."""
    optional = {_canonical(path) for path, hint in names.types.items() if is_optional_bool(hint)}
    out: list[str] = []
    for item, following in itertools.zip_longest(argv, argv[1:]):
        name = _canonical(item).removeprefix("--") if item.startswith("--") else ""
        holder, dot, last = name.rpartition(".")
        positive = f"{holder}{dot}{last.removeprefix('no-')}"
        if name in optional and following not in ("True", "False", "None"):
            out += [item, "True"]
        elif name not in optional and last.startswith("no-") and positive in optional:
            out += [f"--{positive}", "False"]
        else:
            out.append(item)
    return out


def _tyro(cls: type, argv: list[str], prog: str, description: str, known: set[str], preset: str | None) -> Any:
    """Run tyro, and turn its boxed messages into one sentence. Presets may differ in what settings they have."""
    import tyro

    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(
                cls,
                prog=prog,
                description=description,
                args=argv,
                config=(tyro.conf.AvoidSubcommands,),
                registry=_registry(),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
    options = {_canonical(name) for name in known}
    for item in argv:
        name = _canonical(item.partition("=")[0]).removeprefix("--")
        if item.startswith("--") and name not in options and name.replace("no-", "", 1) not in options:
            prefix = "no-" if name.startswith("no-") else ""
            near = did_you_mean(name, sorted(prefix + option for option in options)).replace('"', '"--', 1)
            near = near if near.startswith("; did") else "."
            if preset is None:
                where = f"`{prog} --help` lists all."
            else:
                own = f"`{prog} --preset {preset} --help`"
                where = f"The preset {preset} has no such setting: {own} lists its own."
            raise UserError(f'unknown option "{item.partition("=")[0]}"{near} {where}')
    raise UserError(_sentence(box.getvalue()))


def _registry() -> Any:
    """How values are written and shown, where it is not as tyro has it.

    - Whole numbers may be written 6e5 or 100_000: what is exact is taken, what is not is refused.
    - `X | None` is shown as X; "None" is taken.
    - An empty tuple's default is shown as "empty", which "none" would not be: typed, it is a word like others.
    """
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

    registry = ConstructorRegistry()

    def simple(annotation: Any, info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        """The rule of a type whose values are one word each."""
        found = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(annotation, info.markers))
        return found if isinstance(found, PrimitiveConstructorSpec) and found.nargs == 1 else None

    @registry.primitive_rule
    def _(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if info.type is not int:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda texts: _int(texts[0]),
            is_instance=lambda value: type(value) is int,
            str_from_instance=lambda value: [str(value)],
        )

    @registry.primitive_rule
    def _(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if typing.get_origin(info.type) not in (typing.Union, types.UnionType):
            return None
        parts = [part for part in typing.get_args(info.type) if part is not types.NoneType]
        if len(parts) != 1 or types.NoneType not in typing.get_args(info.type):
            return None
        inner = simple(parts[0], info)
        if inner is None:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar=inner.metavar,
            instance_from_str=lambda texts: None if texts == ["None"] else inner.instance_from_str(texts),
            is_instance=lambda value: value is None or inner.is_instance(value),
            str_from_instance=lambda value: ["None"] if value is None else inner.str_from_instance(value),
            choices=None if inner.choices is None else ("None", *inner.choices),
        )

    @registry.primitive_rule
    def _(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        arguments = typing.get_args(info.type)
        if typing.get_origin(info.type) is not tuple or len(arguments) != 2 or arguments[1] is not ...:
            return None
        inner = simple(arguments[0], info)
        if inner is None:
            return None
        take, is_one, show = inner.instance_from_str, inner.is_instance, inner.str_from_instance
        return PrimitiveConstructorSpec(
            nargs="*",
            metavar=f"[{inner.metavar} ...]",
            instance_from_str=lambda texts: tuple(take([text]) for text in texts),
            is_instance=lambda value: isinstance(value, tuple) and all(map(is_one, value)),
            str_from_instance=lambda value: [word for item in value for word in show(item)] or ["empty"],
            choices=inner.choices,
        )

    return registry


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = Decimal(text)
        if value == value.to_integral_value() and value.adjusted() < 64:
            return int(value)
    except ArithmeticError:
        pass
    raise ValueError(f'"{text}" is no whole number')


def _sentence(box: str) -> str:
    """The message in one of tyro's boxes, which it draws with lines or, on a plain terminal, with hyphens."""
    rows = [row.strip("│╭╮╰╯ ") for row in box.strip().splitlines()]
    title, body = (rows or [""])[0].strip("─ "), list(itertools.dropwhile(_is_rule, rows[1:]))
    text = " ".join(itertools.takewhile(lambda row: not _is_rule(row), body)).removeprefix("Error parsing ")
    if not text:
        return " ".join(rows) or "the arguments do not fit."
    if title == "Required options":
        text = re.sub(r"^Missing from .*?: ", "a required option is missing: ", text).replace(" (required)", "")
    # An error of __post_init__ names its field itself; tyro names the holder, which the user never typed.
    return re.sub(r"^(settings|options)(\.[\w.]+)?: ", "", text)


def _is_rule(row: str) -> bool:
    return re.fullmatch("─+|-+", row) is not None


def _describe(
    description: str,
    cls: type,
    presets: Mapping[str, Any],
    preset_help: Mapping[str, str],
    choices: Mapping[str, Sequence[str]],
) -> str:
    """The description with the presets and the choices of types below it."""
    width = max((len(name) for name in [*presets, *choices]), default=0)
    text = [description.strip()]
    if presets:
        text += ["", "presets:"]
        text += [f"  {n:<{width}}  {preset_help.get(n) or _changes(cls, c)}" for n, c in presets.items()]
    if choices:
        text += ["", "choices:"]
        text += [f"  --{option:<{width}}  {', '.join(names)}" for option, names in choices.items()]
    return "\n".join(text)


def _changes(cls: type, config: Any) -> str:
    """In what a preset differs from the defaults, in one short line."""
    default, here = _leaves(to_dict(base) if (base := _default(cls)) is not None else {}), _leaves(to_dict(config))
    changed = [f"{name}={value}" for name, value in here.items() if default.get(name, ...) != value]
    return ", ".join(changed[:4] + ["..."] * (len(changed) > 4)) or "the defaults"


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {path: tree}
    return {k: v for name, sub in tree.items() for k, v in _leaves(sub, f"{path}.{name}" if path else name).items()}


def _canonical(option: str) -> str:
    return option.replace("_", "-")
