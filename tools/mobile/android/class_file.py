"""Write one compile-only Java class file (JVM specification, chapter 4) for an `ApiClass`."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Final

from signatures import ApiClass, Member, TypeRef

__all__ = ["class_file"]

_JAVA_8: Final = 52
_PRIMITIVES: Final = {
    "void": "V", "boolean": "Z", "byte": "B", "char": "C", "short": "S",
    "int": "I", "long": "J", "float": "F", "double": "D",
}  # fmt: skip
_FLAGS: Final = {
    "public": 0x1, "private": 0x2, "protected": 0x4, "static": 0x8, "final": 0x10,
    "synchronized": 0x20, "volatile": 0x40, "transient": 0x80, "abstract": 0x400,
}  # fmt: skip
_KIND_FLAGS: Final = {"class": 0, "interface": 0x600, "@interface": 0x2600, "enum": 0x4010}
_SUPER: Final = 0x20
_VARARGS: Final = 0x80
_ENUM: Final = 0x4000
_OBJECT: Final = "java/lang/Object"


class _ConstantPool:
    """Constants of one class file; each is stored once."""

    def __init__(self) -> None:
        self.data = b""
        self.count = 1
        self.classes: set[str] = set()
        self._known: dict[tuple[int, bytes], int] = {}

    def _add(self, tag: int, data: bytes) -> int:
        if (tag, data) not in self._known:
            self._known[tag, data] = self.count
            self.data += bytes([tag]) + data
            self.count += 2 if tag in (5, 6) else 1  # long and double take two places
        return self._known[tag, data]

    def text(self, text: str) -> int:
        encoded = text.encode("utf-8", "surrogatepass").replace(b"\0", b"\xc0\x80")
        return self._add(1, struct.pack(">H", len(encoded)) + encoded)

    def class_(self, name: str) -> int:
        self.classes.add(name)
        return self._add(7, struct.pack(">H", self.text(name)))

    def constant(self, literal: str, descriptor: str) -> int | None:
        """Index of a field's value, or None where its text is an expression."""
        if descriptor == "Ljava/lang/String;":
            value = json.loads(literal.replace("\\'", "'"))
            return self._add(8, struct.pack(">H", self.text(value)))
        try:
            if descriptor in ("I", "S", "B", "C"):
                return self._add(3, struct.pack(">i", int(literal)))
            if descriptor == "Z":
                return self._add(3, struct.pack(">i", literal == "true"))
            if descriptor == "J":
                return self._add(5, struct.pack(">q", int(literal.rstrip("L"))))
            if descriptor == "F":
                return self._add(4, struct.pack(">f", float(literal.rstrip("f"))))
            if descriptor == "D":
                return self._add(6, struct.pack(">d", float(literal)))
        except ValueError:  # (0.0f/0.0f) and its like
            return None
        return None


class _Types:
    """Descriptors and generic signatures of types, as one class sees them."""

    def __init__(self, classes: Mapping[str, ApiClass], variables: Mapping[str, TypeRef]) -> None:
        self.classes = classes
        self.variables = variables

    def within(self, member: Member) -> _Types:
        own = {name: bounds[0] for name, bounds in member.type_parameters}
        return _Types(self.classes, {**self.variables, **own})

    def binary(self, name: str) -> str:
        if name in self.classes:
            return self.classes[name].binary_name
        if "." not in name:
            return self.binary(f"java.lang.{name}")
        outer, _, last = name.rpartition(".")
        nested = outer.rpartition(".")[2][:1].isupper()
        return f"{self.binary(outer)}${last}" if nested else name.replace(".", "/")

    def descriptor(self, type_: TypeRef) -> str:
        array = "[" * type_.dimensions
        if type_.name in _PRIMITIVES:
            return array + _PRIMITIVES[type_.name]
        if type_.name in self.variables:
            return array + self.descriptor(self.variables[type_.name])
        name, inner = self.binary(type_.name), type_.inner
        while inner is not None:
            name, inner = f"{name}${inner.name}", inner.inner
        return f"{array}L{name};"

    def signature(self, type_: TypeRef) -> str:
        array = "[" * type_.dimensions
        if type_.name == "?":
            return "*"
        if type_.name.startswith("? "):
            bound = self.signature(type_.arguments[0])
            return ("+" if type_.name == "? extends" else "-") + bound
        if type_.name in _PRIMITIVES:
            return array + _PRIMITIVES[type_.name]
        if type_.name in self.variables:
            return f"{array}T{type_.name};"
        text = f"L{self.binary(type_.name)}{self._arguments(type_)}"
        inner = type_.inner
        while inner is not None:
            text += f".{inner.name}{self._arguments(inner)}"
            inner = inner.inner
        return f"{array}{text};"

    def _arguments(self, type_: TypeRef) -> str:
        inside = "".join(self.signature(argument) for argument in type_.arguments)
        return f"<{inside}>" if inside else ""

    def parameters(self, parameters: tuple[tuple[str, tuple[TypeRef, ...]], ...]) -> str:
        text = ""
        for name, bounds in parameters:
            text += name
            for index, bound in enumerate(bounds):
                known = self.classes.get(bound.name)
                interface = index == 0 and known is not None and known.kind == "interface"
                text += ("::" if interface else ":") + self.signature(bound)
        return f"<{text}>" if text else ""


def _attribute(pool: _ConstantPool, name: str, data: bytes) -> bytes:
    return struct.pack(">HI", pool.text(name), len(data)) + data


def _nullness(pool: _ConstantPool, annotations: frozenset[str]) -> bytes:
    """The list of `android.annotation.NonNull` or `Nullable`, which Kotlin takes as strict."""
    names = sorted({name.rpartition(".")[2] for name in annotations} & {"NonNull", "Nullable"})
    notes = (struct.pack(">HH", pool.text(f"Landroid/annotation/{name};"), 0) for name in names)
    return struct.pack(">H", len(names)) + b"".join(notes)


def _outers(api: ApiClass, classes: Mapping[str, ApiClass]) -> Iterator[ApiClass]:
    """The class itself and those whose instances it is bound to (not static), inside out."""
    yield api
    while "static" not in api.modifiers and "." in api.name and api.kind == "class":
        api = classes[f"{api.package}.{api.name.rpartition('.')[0]}"]
        yield api


def _flags(modifiers: frozenset[str]) -> int:
    return sum(bit for name, bit in _FLAGS.items() if name in modifiers)


def _field(member: Member, pool: _ConstantPool, types: _Types) -> bytes:
    descriptor, signature = types.descriptor(member.type), types.signature(member.type)
    attributes = []
    if signature != descriptor:
        attributes.append(_attribute(pool, "Signature", struct.pack(">H", pool.text(signature))))
    value = pool.constant(member.value, descriptor) if member.value is not None else None
    if value is not None:
        attributes.append(_attribute(pool, "ConstantValue", struct.pack(">H", value)))
    notes = _nullness(pool, member.annotations)
    attributes.append(_attribute(pool, "RuntimeInvisibleAnnotations", notes))
    flags = _flags(member.modifiers) | (_ENUM if member.kind == "enum_constant" else 0)
    head = (flags, pool.text(member.name), pool.text(descriptor), len(attributes))
    return struct.pack(">HHHH", *head) + b"".join(attributes)


def _method(
    member: Member, api: ApiClass, pool: _ConstantPool, types: _Types, outer: str | None
) -> bytes:
    types = types.within(member)
    taken = [type_ for type_, _ in member.parameters]
    hidden = f"L{outer};" if outer and member.kind == "ctor" else ""
    inside = "".join(types.descriptor(type_) for type_ in taken)
    descriptor = f"({hidden}{inside}){types.descriptor(member.type)}"
    generic = types.parameters(member.type_parameters)
    generic += f"({''.join(map(types.signature, taken))}){types.signature(member.type)}"
    flags = _flags(member.modifiers - {"synchronized"}) | (_VARARGS if member.varargs else 0)
    if api.kind in ("interface", "@interface") and not {"default", "static"} & member.modifiers:
        flags |= _FLAGS["abstract"] | _FLAGS["public"]
    attributes = [_attribute(pool, "Signature", struct.pack(">H", pool.text(generic)))]
    if not flags & _FLAGS["abstract"]:
        size = 2 + sum(2 if types.descriptor(type_) in "JD" else 1 for type_ in taken)
        # aconst_null, athrow: enough for a compiler, which never runs it
        code = struct.pack(">HHI", 1, size, 2) + b"\x01\xbf" + struct.pack(">HH", 0, 0)
        attributes.append(_attribute(pool, "Code", code))
    if member.throws:
        names = [pool.class_(types.descriptor(type_)[1:-1]) for type_ in member.throws]
        data = struct.pack(f">H{len(names)}H", len(names), *names)
        attributes.append(_attribute(pool, "Exceptions", data))
    notes = _nullness(pool, member.annotations)
    attributes.append(_attribute(pool, "RuntimeInvisibleAnnotations", notes))
    each = b"".join(_nullness(pool, annotations) for _, annotations in member.parameters)
    data = bytes([len(taken)]) + each
    attributes.append(_attribute(pool, "RuntimeInvisibleParameterAnnotations", data))
    head = (flags, pool.text(member.name), pool.text(descriptor), len(attributes))
    return struct.pack(">HHHH", *head) + b"".join(attributes)


def _inner_classes(
    api: ApiClass, classes: Mapping[str, ApiClass], pool: _ConstantPool, text: str
) -> bytes:
    """The attribute that tells a compiler which of the named classes are nested, and in what."""
    by_name = {known.binary_name: known for known in classes.values() if "." in known.name}
    nested = {name for name in by_name if name.rpartition("$")[0] == api.binary_name}
    for name in {api.binary_name, *pool.classes, *_named(text)}:
        while "$" in name:
            nested |= {name} & by_name.keys()
            name = name.rpartition("$")[0]
    data = struct.pack(">H", len(nested))
    for name in sorted(nested):
        outer, _, last = name.rpartition("$")
        flags = _flags(by_name[name].modifiers) | _KIND_FLAGS[by_name[name].kind]
        data += struct.pack(">HHHH", pool.class_(name), pool.class_(outer), pool.text(last), flags)
    return _attribute(pool, "InnerClasses", data)


def _named(descriptors: str) -> set[str]:
    """Names of all classes in some descriptors."""
    names = descriptors.replace("[", " ").replace("(", " ").replace(")", " ").replace(";", " ; ")
    return {word[word.find("L") + 1 :] for word in names.split() if "/" in word}


def class_file(api: ApiClass, classes: Mapping[str, ApiClass]) -> bytes:
    """The bytes of NAME.class: every member of `api`, with bodies that only throw.

    `classes` holds all classes of the API by their full name; they say what a name refers to.
    """
    pool = _ConstantPool()
    chain = list(_outers(api, classes))
    variables = {
        name: bounds[0] for outer in reversed(chain) for name, bounds in outer.type_parameters
    }
    types = _Types(classes, variables)
    outer = chain[1].binary_name if len(chain) > 1 else None
    fields = [_field(m, pool, types) for m in api.members if m.kind in ("field", "enum_constant")]
    methods = [
        _method(m, api, pool, types, outer) for m in api.members if m.kind in ("method", "ctor")
    ]
    flags = _flags(api.modifiers - {"static", "protected", "private"}) | _KIND_FLAGS[api.kind]
    flags |= _FLAGS["public"] if "protected" in api.modifiers else 0
    flags |= _SUPER if api.kind in ("class", "enum") else 0
    full_name = f"{api.package}.{api.name}"
    parent = api.superclass or TypeRef("java.lang.Object")
    if api.kind == "enum":
        parent = TypeRef("java.lang.Enum", (TypeRef(full_name),))
    interfaces = list(api.interfaces)
    if api.kind == "@interface":
        interfaces.append(TypeRef("java.lang.annotation.Annotation"))
    this = pool.class_(api.binary_name)
    above = 0 if full_name == "java.lang.Object" else pool.class_(types.descriptor(parent)[1:-1])
    others = [pool.class_(types.descriptor(interface)[1:-1]) for interface in interfaces]
    signature = types.parameters(api.type_parameters)
    signature += "".join(types.signature(type_) for type_ in (parent, *interfaces))
    attributes = [_attribute(pool, "Signature", struct.pack(">H", pool.text(signature)))]
    used = " ".join(_descriptors(api, types))
    attributes.append(_inner_classes(api, classes, pool, used))
    body = struct.pack(">HHHH", flags, this, above, len(others))
    body += struct.pack(f">{len(others)}H", *others)
    for parts in (fields, methods, attributes):
        body += struct.pack(">H", len(parts)) + b"".join(parts)
    return struct.pack(">IHHH", 0xCAFEBABE, 0, _JAVA_8, pool.count) + pool.data + body


def _descriptors(api: ApiClass, types: _Types) -> Iterator[str]:
    for member in api.members:
        own = types.within(member)
        yield own.signature(member.type).replace("<", " ").replace(">", " ")
        for type_, _ in member.parameters:
            yield own.signature(type_).replace("<", " ").replace(">", " ")
