"""Read Android's API signature text (metalava format 2.0, `api/current.txt`) into plain records."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["ApiClass", "Member", "TypeRef", "parse_api"]

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\.\.\.|@?[\w$]+(?:\.[\w$]+)*|\S')
_MODIFIERS = frozenset(
    (
        *("public", "private", "protected", "static", "final", "synchronized", "volatile"),
        *("transient", "native", "abstract", "strictfp", "default", "deprecated"),
    )
)
_KINDS = ("class", "interface", "enum", "@interface")


@dataclass(frozen=True)
class TypeRef:
    """One type: `name` with dots (`?`, `? extends`, `? super` for wildcards) and its arguments.

    `inner` continues a generic outer type (`Outer<T>.Inner`), `dimensions` counts `[]`.
    """

    name: str
    arguments: tuple[TypeRef, ...] = ()
    inner: TypeRef | None = None
    dimensions: int = 0


TypeParameters = tuple[tuple[str, tuple[TypeRef, ...]], ...]


@dataclass(frozen=True)
class Member:
    """A field, enum constant, method or constructor (whose name is `<init>` and type void)."""

    kind: str
    name: str
    modifiers: frozenset[str]
    type: TypeRef
    annotations: frozenset[str] = frozenset()
    parameters: tuple[tuple[TypeRef, frozenset[str]], ...] = ()
    type_parameters: TypeParameters = ()
    throws: tuple[TypeRef, ...] = ()
    varargs: bool = False
    value: str | None = None


@dataclass
class ApiClass:
    """A class, interface, enum or annotation; `name` has dots for nested ones (`Bitmap.Config`)."""

    package: str
    name: str
    kind: str
    modifiers: frozenset[str]
    type_parameters: TypeParameters = ()
    superclass: TypeRef | None = None
    interfaces: tuple[TypeRef, ...] = ()
    members: list[Member] = field(default_factory=list)

    @property
    def binary_name(self) -> str:
        """`android/graphics/Bitmap$Config`"""
        return f"{self.package.replace('.', '/')}/{self.name.replace('.', '$')}"


class _Reader:
    """A recursive-descent reader over one line's tokens."""

    def __init__(self, line: str) -> None:
        self.tokens: list[str] = _TOKEN.findall(line)
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def skip(self, token: str) -> bool:
        if self.peek() != token:
            return False
        self.at += 1
        return True

    def annotations(self) -> frozenset[str]:
        found = set()
        while self.peek().startswith("@") and self.peek() != "@interface":
            found.add(self.take()[1:])
            if self.peek() == "(":
                self._skip_parentheses()
        return frozenset(found)

    def _skip_parentheses(self) -> None:
        depth = 0
        while True:
            token = self.take()
            depth += (token == "(") - (token == ")")  # noqa: S105 - a bracket, no password
            if depth == 0:
                return

    def modifiers(self) -> tuple[frozenset[str], frozenset[str]]:
        """(modifiers, annotations), which stand in any order."""
        words, notes = set(), set(self.annotations())
        while self.peek() in _MODIFIERS:
            words.add(self.take())
            notes |= self.annotations()
        return frozenset(words), frozenset(notes)

    def type(self) -> TypeRef:
        self.annotations()
        name = self.take()
        if name == "?":
            if self.peek() in ("extends", "super"):
                return TypeRef(f"? {self.take()}", (self.type(),))
            return TypeRef("?")
        plain = self._named(name)
        dimensions = 0
        self.annotations()
        while self.peek() in ("[", "..."):
            if self.take() == "[":
                self.take()
            dimensions += 1
            self.annotations()
        return TypeRef(plain.name, plain.arguments, plain.inner, dimensions)

    def _named(self, name: str) -> TypeRef:
        arguments: list[TypeRef] = []
        if self.skip("<"):
            arguments.append(self.type())
            while self.skip(","):
                arguments.append(self.type())
            self.take()
        inner = self._named(self.take()) if self.skip(".") else None
        return TypeRef(name, tuple(arguments), inner)

    def type_parameters(self) -> TypeParameters:
        found: list[tuple[str, tuple[TypeRef, ...]]] = []
        if self.skip("<"):
            while True:
                self.annotations()
                name, bounds = self.take(), []
                if self.skip("extends"):
                    bounds.append(self.type())
                    while self.skip("&"):
                        bounds.append(self.type())
                found.append((name, tuple(bounds) or (TypeRef("java.lang.Object"),)))
                if not self.skip(","):
                    break
            self.take()
        return tuple(found)

    def types_until(self, *ends: str) -> tuple[TypeRef, ...]:
        found = []
        while self.peek() not in ends:
            found.append(self.type())
            self.skip(",")
        return tuple(found)


def _class(package: str, line: str) -> ApiClass:
    reader = _Reader(line)
    modifiers, _ = reader.modifiers()
    kind = reader.take()
    if kind not in _KINDS:
        raise ValueError(f"not a class: {line}")
    found = ApiClass(package, reader.take(), kind, modifiers, reader.type_parameters())
    if reader.skip("extends"):
        parents = reader.types_until("implements", "{")
        if kind == "interface":
            found.interfaces = parents
        else:
            found.superclass = parents[0]
    if reader.skip("implements"):
        found.interfaces = reader.types_until("{")
    return found


def _field(kind: str, line: str) -> Member:
    declared, _, value = line.partition(" = ")
    reader = _Reader(declared)
    modifiers, annotations = reader.modifiers()
    type_ = reader.type()
    name = reader.take()
    if value:
        literal = re.match(r'"(?:\\.|[^"\\])*"|[^;]*', value)
        value = literal[0] if literal else ""
    return Member(kind, name, modifiers, type_, annotations, value=value or None)


def _method(kind: str, line: str) -> Member:
    reader = _Reader(line)
    modifiers, annotations = reader.modifiers()
    type_parameters = reader.type_parameters()
    annotations |= reader.annotations()
    if kind == "ctor":
        type_, _ = TypeRef("void"), reader.take()
        name = "<init>"
    else:
        type_, name = reader.type(), reader.take()
    reader.take()  # (
    parameters: list[tuple[TypeRef, frozenset[str]]] = []
    varargs = False
    while not reader.skip(")"):
        notes = reader.annotations()
        start = reader.at
        parameters.append((reader.type(), notes))
        varargs = "..." in reader.tokens[start : reader.at]
        if reader.peek() not in (",", ")"):
            reader.take()  # the parameter's name, where the file has it
        reader.skip(",")
    throws = reader.types_until(";", "default") if reader.skip("throws") else ()
    return Member(
        kind, name, modifiers, type_, annotations,
        tuple(parameters), type_parameters, throws, varargs,
    )  # fmt: skip


def parse_api(text: str) -> dict[str, ApiClass]:
    """Full name (`android.graphics.Bitmap.Config`) -> class, of a whole signature file.

    Raises:
        ValueError: a line that the format does not have.
    """
    classes: dict[str, ApiClass] = {}
    package = ""
    current: ApiClass | None = None
    for line in text.splitlines():
        words = line.strip()
        if not words or words.startswith("//") or words == "}":
            continue
        if line.startswith("package "):
            package = re.sub(r"@\S+\s+", "", words).split()[1]
        elif line.startswith("    ") and current is not None:
            kind, _, rest = words.partition(" ")
            if kind in ("field", "enum_constant"):
                current.members.append(_field(kind, rest))
            elif kind in ("method", "ctor"):
                current.members.append(_method(kind, rest))
            else:
                raise ValueError(f"unknown member: {words}")
        else:
            current = _class(package, words)
            classes[f"{package}.{current.name}"] = current
    return classes
