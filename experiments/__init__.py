"""One file per system: a frozen `Config`, `preset(name, spec)`, and `build(config, spec) -> System`."""
