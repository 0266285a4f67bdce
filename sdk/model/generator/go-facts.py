#!/usr/bin/env python3
"""Makes go.facts: what only upstream's Go types tell of the built-in kinds. Its format stands in src/facts.rs.

Usage: ./go-facts.py DIR... > go.facts

Each DIR is a checkout of one of these repositories, all at the same tag, such as v0.35.0; all five, in this order:

    https://github.com/kubernetes/api                        k8s.io/api
    https://github.com/kubernetes/apimachinery               k8s.io/apimachinery
    https://github.com/kubernetes/apiextensions-apiserver    k8s.io/apiextensions-apiserver
    https://github.com/kubernetes/kube-aggregator            k8s.io/kube-aggregator
    https://github.com/kubernetes/metrics                    k8s.io/metrics

    for r in api apimachinery apiextensions-apiserver kube-aggregator metrics; do
        git clone --depth 1 --branch v0.35.0 https://github.com/kubernetes/$r
    done

Read are the packages that have a generated.proto. Printed are the structs that ../src/schema/table.txt names, as nobody
asks for facts of others. Which those are depends on k8s-pb and k8s-openapi alone; so at an upgrade run schema-generator,
then this, then schema-generator again. A struct that is not found, or a field that is not understood, is an error.
"""

import pathlib
import re
import sys

TABLE = pathlib.Path(__file__).resolve().parent.parent / "src/schema/table.txt"
BUILT_IN = {"bool", "string", "byte", "int32", "int64", "float64"}
COMMENT = re.compile(r"(^|\s)//[^`]*$|^\s*//.*")
FIELD = re.compile(r"(?:\w+\s+)?(\S+)\s+`(.*)`")
IMPORT = re.compile(r'(?:(\w+)\s+)?"([^"]+)"')
TYPE = re.compile(r"type (\w+) (= )?(.+)")


class Package:
    """A Go package: its import path, its types, and where it is generated for protobuf, the protobuf package."""

    def __init__(self, path, folder):
        self.path = path
        # The package's name, by which Go prints it, is the last part of its path in all of these.
        self.name = path.rsplit("/", 1)[-1]
        # By name: (definition, whether it is an alias, imports of its file); that of a struct is its list of fields.
        self.types = {}
        proto = folder / "generated.proto"
        named = re.search(r"^package k8s\.io\.(.+);", proto.read_text(), re.M) if proto.exists() else None
        self.proto = named and named[1]
        for file in sorted(folder.glob("*.go")):
            if not re.search(r"_test\.go$|^zz_generated|^generated\.", file.name):
                self.read(file)

    def read(self, file):
        """Takes the types of a file, which gofmt has formatted."""
        text = re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.S)
        lines = (COMMENT.sub("", line).strip() for line in text.splitlines())
        imports = {}
        for line in lines:
            if line == "import (":
                while (line := next(lines)) != ")":
                    self.take_import(line, imports)
            elif line.startswith("import "):
                self.take_import(line[7:], imports)
            elif found := TYPE.fullmatch(line):
                name, alias, definition = found.groups()
                if definition.startswith("struct"):
                    empty, definition = definition.endswith("}"), []
                    while not empty and (line := next(lines)) != "}":
                        definition.append(line)
                self.types[name] = (definition, bool(alias), imports)

    @staticmethod
    def take_import(line, imports):
        if found := IMPORT.fullmatch(line):
            imports[found[1] or found[2].rsplit("/", 1)[-1]] = found[2]


class Source:
    """The checkouts. Types are (package, name), or name alone where Go has them built in."""

    def __init__(self, folders):
        self.packages = {}
        self.modules = {}
        self.versions = set()
        for folder in folders:
            text = (folder / "go.mod").read_text()
            self.modules[re.search(r"^module (\S+)", text, re.M)[1]] = folder
            # At a tag, they require each other at this tag.
            self.versions.update(re.findall(r"^\s*k8s\.io/api\w* (v\S+)", text, re.M))
        if len(self.versions) != 1:
            raise ValueError(f"not all at one tag: {sorted(self.versions)}")

    def package(self, path):
        if path not in self.packages:
            found = [(m, f) for m, f in self.modules.items() if path == m or path.startswith(m + "/")]
            if not found:
                raise ValueError(f"no DIR has {path}")
            module, folder = found[0]
            self.packages[path] = Package(path, folder / path[len(module) + 1:])
        return self.packages[path]

    def generated(self):
        """The packages that are generated for protobuf."""
        for module, folder in self.modules.items():
            for proto in sorted(folder.rglob("generated.proto")):
                path = proto.parent.relative_to(folder).as_posix()
                yield self.package(f"{module}/{path}")

    def resolve(self, text, package, imports):
        """The type that an identifier is about, past aliases."""
        if text in BUILT_IN:
            return text
        if "." in text:
            alias, text = text.split(".")
            package, imports = self.package(imports[alias]), {}
        if text not in package.types:
            raise ValueError(f"{package.path} has no type {text}")
        definition, alias, imports = package.types[text]
        return self.resolve(definition, package, imports) if alias else (package, text)

    def shape(self, text, package, imports):
        """(What Go prints for a type, its shape: struct or plain; what Go would print had it no name of its own.)"""
        if text.startswith("[]"):
            printed, _, plain = self.shape(text[2:], package, imports)
            return "[]" + printed, "plain", "[]" + plain
        if text.startswith("map["):
            key, value = text[4:].split("]", 1)
            (k, _, plain_k), (v, _, plain_v) = (self.shape(t, package, imports) for t in (key, value))
            return f"map[{k}]{v}", "plain", f"map[{plain_k}]{plain_v}"
        resolved = self.resolve(text, package, imports)
        if isinstance(resolved, str):
            printed = {"byte": "uint8"}.get(resolved, resolved)
            return printed, "plain", printed
        package, name = resolved
        definition, _, imports = package.types[name]
        printed = f"{package.name}.{name}"
        if isinstance(definition, list):
            return printed, "struct", printed
        _, shape, plain = self.shape(definition, package, imports)
        # A name of a struct's type is a struct of its own for protobuf too.
        return printed, shape, printed if shape == "struct" else plain

    def facts(self, package, name):
        """The words of a struct's line."""
        fields, _, imports = package.types[name]
        if not isinstance(fields, list):
            # A new name for a struct; nothing for other types.
            if self.shape(name, package, imports)[1] == "struct":
                yield from self.facts(*self.resolve(fields, package, imports))
            return
        for line in (f for f in fields if "`" in f):
            found = FIELD.fullmatch(line)
            if not found:
                raise ValueError(f"{package.path}.{name}: {line}")
            tags = dict(re.findall(r'(\w+):"([^"]*)"', found[2]))
            # TypeMeta is not in the protobuf; what has no JSON tag writes its JSON itself.
            if "protobuf" not in tags or tags.get("json", "-") == "-":
                continue
            json, *options = tags["json"].split(",")
            pointer, text = found[1].startswith("*"), found[1].removeprefix("*")
            printed, shape, plain = self.shape(text, package, imports)
            if "inline" in options:
                named = re.search(r"name=(\w+)", tags["protobuf"])
                yield (named[1] if named else text[0].lower() + text[1:]) + "=i"
                continue
            if shape == "struct":
                code = "" if pointer else "v"
            elif pointer:
                code = "p"
            else:
                code = "" if {"omitempty", "omitzero"} & set(options) else "r"
            go = f":{printed}" if printed != plain else ""
            if code or go:
                yield f"{json}={code}{go}"


def main(folders):
    wanted = {line.split()[1].removeprefix("io.k8s.").replace("-", "_").lower()
              for line in TABLE.read_text().splitlines() if line.startswith("= ")}
    source = Source([pathlib.Path(f) for f in folders])
    names = ",".join(m.split("/")[1] for m in source.modules)
    lines = []
    for package in source.generated():
        for name in package.types:
            path = f"{package.proto}.{name}"
            if path.lower() in wanted:
                wanted.remove(path.lower())
                if words := list(source.facts(package, name)):
                    lines.append((package.proto, name, " ".join([path, *words])))
    if wanted:
        raise ValueError(f"no Go type is {sorted(wanted)}")
    print(f"# Of the Go types of k8s.io/{{{names}}} {source.versions.pop()}; see src/facts.rs.")
    for _, _, line in sorted(lines):
        print(line)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
