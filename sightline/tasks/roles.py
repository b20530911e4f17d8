"""The role of each name in a Python function, by the rules of the language: gold without annotators.

    def area ( side , unit ) : NEWLINE INDENT from math import pi NEWLINE total = side * pi NEWLINE ...
               BIND   BIND                         MODULE      BIND         BIND    USE    USE
                                                                                    |      imported here, link to `pi`
                                                                                    parameter, link to `side`

The rules, in the order of their application:

1. Every function of a module is a sequence, methods, async and nested functions too. Decorators are left out.
2. A function with an inner scope (def, class, lambda, comprehension, type parameters or alias), even in a default
   value, is left out: in the others every name belongs to one scope. The syntax tree decides, since `symtable` does not
   show the scopes of inlined comprehensions (Python 3.12 and later).
3. Comments, blank lines and docstrings are dropped. NEWLINE, INDENT and DEDENT are tokens. A string is one token, an
   f-string too, with the names inside it.
4. A *name* is an identifier that the language resolves by scope. The others (attributes, keywords of a call, module
   paths, the function's own name) are placeholders.
5. A name is a parameter if the signature binds it; else imported here if an import binds it; else local if anything
   binds it; else, or if declared `global` or `nonlocal`, it is from outside. So are all names in defaults and
   annotations of the signature, which are evaluated outside the function.
6. Only a use (a load) has a role; binding, deleting, declaring and `x += 1` are not uses. A use links to the first
   token that binds its name, if that stands before it.
"""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from tokenize import NAME, OP, STRING

ROLES = ("parameter", "local", "imported", "outside")
PARAMETER, LOCAL, IMPORTED, OUTSIDE = range(4)
AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef

USE, SIGNATURE_USE, BIND, MENTION = ("USE", "SIGNATURE_USE", "BIND", "MENTION")  # what an occurrence of a name does
OCCURRENCES = frozenset((USE, SIGNATURE_USE, BIND, MENTION))
IMPORT = "IMPORT"  # at the first word of an import statement
PLACEHOLDERS = ("ATTRIBUTE", "KEYWORD", "FUNCTION", "MODULE")
LAYOUT = {"NEWLINE": "\n", "INDENT": "", "DEDENT": ""}  # the layout as it is written
SOFT_KEYWORDS = ("match", "case", "_")
OPERATORS = tuple(sorted(set(tokenize.EXACT_TOKEN_TYPES) - {"!"}))  # "!" stands in f-strings only
WORDS = (*LAYOUT, *PLACEHOLDERS, "STRING", "NUMBER", *keyword.kwlist, *SOFT_KEYWORDS, *OPERATORS)

KEYWORDS = frozenset(keyword.kwlist)
CLOSE, OPEN, TIGHT = set(")]},:;."), set("([{."), set("([")  # no blank before, none after, none before as a call
DROPPED = frozenset((tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER))
F_STRING_START = getattr(tokenize, "FSTRING_START", None)  # Python 3.12 and later
F_STRING_END = getattr(tokenize, "FSTRING_END", None)

# Nodes of the syntax tree, by what has to be done about them.
INNER_SCOPES = {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda}
INNER_SCOPES |= {ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, getattr(ast, "TypeAlias", None)}
WITH_BLOCKS = {ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar}
WITH_BLOCKS |= {ast.ExceptHandler, ast.Match, ast.match_case}
WITH_PLAIN_NAMES = {ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.keyword, ast.ExceptHandler}
WITH_PLAIN_NAMES |= {ast.Match, ast.MatchAs, ast.MatchStar, ast.MatchMapping}
LEAVES = {ast.Constant, ast.Load, ast.Store, ast.Del, ast.Pass, ast.Break, ast.Continue}


@dataclass(frozen=True, slots=True)
class Function:
    """One function as tokens: where it stands, what each token is, and for each use of a name its role and link."""

    qualname: str
    line: int
    spelling: list[str]  # the tokens as written; layout by its kind
    words: list[str | None]  # the same without spelling, out of WORDS; None is a name
    roles: list[int]  # of each token: an index into ROLES, -1 = not a use
    links: list[int]  # of each token: where the name it uses is bound; -1 = none


def functions(source: str) -> Iterator[Function]:
    """The functions of a module without inner scopes, in the order of the text.

    Raises: SyntaxError where the source is not Python.

    >>> [f] = functions("def double(x): return x + x")
    >>> f.spelling
    ['def', 'double', '(', 'x', ')', ':', 'return', 'x', '+', 'x', 'NEWLINE']
    >>> f.links
    [-1, -1, -1, -1, -1, -1, -1, 3, -1, 3, -1]
    """
    lines = io.StringIO(source).readlines()
    for qualname, node in _definitions(ast.parse(source).body, ""):
        names = _Names(node)
        if not names.inner_scope:
            yield _resolved(qualname, node.lineno, names, *_tokens(node, names.marks, lines))


def _definitions(body: list, prefix: str) -> Iterator[tuple[str, AnyFunction]]:
    """(qualified name, node) of every function defined under these statements; definitions stand in statements only."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield prefix + node.name, node
            yield from _definitions(node.body, f"{prefix}{node.name}.<locals>.")
        elif isinstance(node, ast.ClassDef):
            yield from _definitions(node.body, f"{prefix}{node.name}.")
        elif type(node) in WITH_BLOCKS:
            for block in ("body", "handlers", "cases", "orelse", "finalbody"):
                yield from _definitions(getattr(node, block, []), prefix)


class _Names:
    """The names of one function in its syntax tree: `marks` by position, and the scope as sets of names."""

    def __init__(self, function: AnyFunction):
        self.marks: dict[tuple[int, int], str] = {}  # by (line, column in bytes)
        self.parameters, self.bound, self.imported, self.declared = set(), set(), set(), set()
        self.inner_scope = bool(getattr(function, "type_params", ()))
        a = function.args
        for arg in filter(None, (*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg)):
            self.marks[arg.lineno, arg.col_offset] = BIND
            self.parameters.add(arg.arg)
            self._walk([arg.annotation], signature=True)
        self._walk([*a.defaults, *a.kw_defaults, function.returns], signature=True)
        self._walk(function.body)

    def _walk(self, nodes: list, signature: bool = False, seen: bool = True) -> None:
        stack = [node for node in nodes if node is not None]
        while stack and not self.inner_scope:
            node = stack.pop()
            type_ = type(node)
            if type_ is ast.Name:
                self._name(node, signature, seen)
            elif type_ is ast.JoinedStr and seen:  # its names bind, but no token shows them
                self._walk(node.values, signature, seen=False)
            elif type_ in INNER_SCOPES:
                self.inner_scope = True
            elif type_ not in LEAVES:
                if type_ in WITH_PLAIN_NAMES and seen:
                    self._plain_names(node)
                for child in vars(node).values():
                    if isinstance(child, ast.AST):
                        stack.append(child)
                    elif type(child) is list:
                        stack += [item for item in child if isinstance(item, ast.AST)]

    def _name(self, node: ast.Name, signature: bool, seen: bool) -> None:
        kind = USE if isinstance(node.ctx, ast.Load) else BIND if isinstance(node.ctx, ast.Store) else MENTION
        if signature:  # a walrus in a default binds outside
            kind = SIGNATURE_USE if kind is USE else MENTION
        elif kind is not USE:
            self.bound.add(node.id)
        if seen:
            self.marks[node.lineno, node.col_offset] = kind

    def _plain_names(self, node: ast.AST) -> None:
        """Names that are plain strings in the tree; those without a position are recognised in `_kind_beside`."""
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self.marks[node.lineno, node.col_offset] = IMPORT
            for alias in node.names:
                self.imported.add(alias.asname or alias.name.partition(".")[0])
                self.marks[alias.lineno, alias.col_offset] = "MODULE" if alias.asname else BIND
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            self.marks[node.lineno, node.col_offset] = MENTION
            self.declared.update(node.names)
        elif isinstance(node, ast.keyword) and node.arg is not None:
            self.marks[node.lineno, node.col_offset] = "KEYWORD"
        elif isinstance(node, (ast.ExceptHandler, ast.MatchStar)) and node.name is not None:
            self.bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest is not None:
            self.bound.add(node.rest)
        elif isinstance(node, ast.MatchAs) and node.name is None:
            self.marks[node.lineno, node.col_offset] = "_"
        elif isinstance(node, ast.MatchAs):
            self.bound.add(node.name)
            if node.pattern is None:
                self.marks[node.lineno, node.col_offset] = BIND
        elif isinstance(node, ast.Match):
            self.marks[node.lineno, node.col_offset] = "match"

    def role(self, name: str) -> int:
        if name in self.declared:
            return OUTSIDE
        if name in self.parameters:
            return PARAMETER
        return IMPORTED if name in self.imported else LOCAL if name in self.bound else OUTSIDE


def _tokens(function: AnyFunction, marks: dict, lines: list[str]) -> tuple[list[str], list[str]]:
    """(spelling, kinds) of the function's tokens, `kinds` out of WORDS or one of USE, SIGNATURE_USE, BIND, MENTION."""
    text = lines[function.lineno - 1 : function.end_lineno]
    ascii_only = all(map(str.isascii, text))
    docstring, after_docstring = _docstring(function)
    spelling, kinds, statement, indents, separator = [], [], None, 0, False
    for type_, string, (row, column), _, _ in _raw_tokens(text):
        if type_ in DROPPED or not (kinds or type_ == NAME):
            continue  # before the first name: the indentation of the whole function
        if not ascii_only and row <= len(text):
            column = len(text[row - 1][:column].encode())
        at = (row + function.lineno - 1, column)
        if docstring <= at < after_docstring:
            separator = True
            continue
        if separator:  # the NEWLINE or ";" after the docstring
            separator = False
            continue
        if type_ == NAME:
            if string in KEYWORDS:
                kind, statement = string, marks.get(at, statement)
            else:
                kind = marks.get(at) or _kind_beside(kinds[-1], string, statement)
        elif type_ == OP:
            kind = string
        else:
            kind = tokenize.tok_name[type_]
            indents += (kind == "INDENT") - (kind == "DEDENT")
            if indents < 0:
                break
            string = string if kind in ("STRING", "NUMBER") else kind
        if kind == "NEWLINE" or kind == ";":
            statement = None
        spelling.append(string)
        kinds.append(kind)
    return spelling, kinds


def _kind_beside(previous: str, string: str, statement: str | None) -> str:
    """The kind of an identifier without a position in the syntax tree, by the word before it and its statement."""
    if statement == IMPORT:
        return BIND if previous == "as" else "MODULE"
    if statement == MENTION:  # global, nonlocal
        return MENTION
    if previous == ".":
        return "ATTRIBUTE"
    if previous == "def":
        return "FUNCTION"
    if previous in ("as", "*", "**"):  # except, and captures of a pattern
        return "_" if string == "_" and previous == "*" else BIND
    return "case" if previous in LAYOUT else "KEYWORD"  # a class pattern names attributes as a call does


def _raw_tokens(text: list[str]) -> Iterator[tuple]:
    """The tokens of `tokenize`; an f-string is one STRING, as before Python 3.12."""
    tokens = tokenize.generate_tokens(iter(text).__next__)
    return _joined_f_strings(tokens, text) if F_STRING_START else tokens


def _joined_f_strings(tokens: Iterator, text: list[str]) -> Iterator[tuple]:
    depth, first = 0, (1, 0)
    for token in tokens:
        if token.type == F_STRING_START:
            if depth == 0:
                first = token.start
            depth += 1
        elif depth == 0:
            yield token
        elif token.type == F_STRING_END:
            depth -= 1
            if depth == 0:
                (top, left), (bottom, right) = first, token.end
                rows = [*text[top - 1 : bottom - 1], text[bottom - 1][:right]]
                yield STRING, "".join(rows)[left:], first, token.end, ""


def _docstring(function: AnyFunction) -> tuple[tuple[int, int], tuple[int, int]]:
    """(line, column) of the docstring's begin and end; twice the same place without one."""
    node = function.body[0]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)
    return (0, 0), (0, 0)


def _resolved(qualname: str, line: int, names: _Names, spelling: list[str], kinds: list[str]) -> Function:
    """Joins both halves: the scope gives the role of each use, the order of the tokens its link."""
    words, roles, links, bindings = [], [], [], {}
    for position, (name, kind) in enumerate(zip(spelling, kinds, strict=True)):
        role = link = -1
        if kind in OCCURRENCES:
            name = name if name.isascii() else unicodedata.normalize("NFKC", name)  # as the language compares them
            if kind == BIND:
                bindings.setdefault(name, position)
            elif kind != MENTION:
                role = OUTSIDE if kind == SIGNATURE_USE else names.role(name)
                link = -1 if role == OUTSIDE else bindings.get(name, -1)
        words.append(None if kind in OCCURRENCES else kind)
        roles.append(role)
        links.append(link)
    return Function(qualname, line, spelling, words, roles, links)


def words_and_spaces(tokens: list[str], kinds: list[str | None]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of a function and the blanks before each; together they are Python.

    `kinds` distinguish the end of a line, which is a word, from a name spelled NEWLINE. INDENT and DEDENT are empty.

    >>> tokens = ["def", "f", "(", "INDENT", ")", ":", "NEWLINE", "INDENT", "return", "INDENT", "NEWLINE"]
    >>> words, spaces = words_and_spaces(tokens, [*tokens[:3], "name0", *tokens[4:9], "name0", "NEWLINE"])
    >>> "".join(space + word for space, word in zip(spaces, words))
    'def f(INDENT):\\n    return INDENT\\n'
    """
    words, spaces, depth, before = [], [], 0, "\n"
    for token, kind in zip(tokens, kinds, strict=True):
        depth += (kind == "INDENT") - (kind == "DEDENT")
        if kind in LAYOUT:
            words.append(LAYOUT[kind])
            spaces.append("")
            before = "\n"
            continue
        callee = before in (")", "]") or before.isidentifier() and before not in KEYWORDS
        apart = token not in CLOSE and before not in OPEN and not (token in TIGHT and callee)
        words.append(token)
        spaces.append("    " * depth if before == "\n" else " " * apart)
        before = token
    return tuple(words), tuple(spaces)
