"""Each construct that binds or uses a name, with the answer drawn beside it; `symtable` is the second opinion."""

import importlib
import inspect
import symtable
import sys
import textwrap

import pytest

from sightline.tasks.roles import ROLES, WORDS, functions


def drawn(source: str) -> str:
    """The only function of a source by tokens: a use as name:role, with @link; another mention of a name as [name]."""
    [function] = functions(textwrap.dedent(source))
    tokens = []
    for spelled, word, role, link in zip(
        function.spelling, function.words, function.roles, function.links, strict=True
    ):
        use = f"{spelled}:{ROLES[role]}" + (f"@{link}" if link >= 0 else "")
        tokens.append(word if word is not None else use if role >= 0 else f"[{spelled}]")
    return " ".join(tokens)


START = "def FUNCTION ( ) : NEWLINE INDENT "
X = "def FUNCTION ( [x] ) : NEWLINE INDENT "
CASES = {
    "parameter": ("def f(x): return x", "def FUNCTION ( [x] ) : return x:parameter@3 NEWLINE"),
    "every kind of parameter": (
        "def f(a, /, b, *c, d, **e): return a, b, c, d, e",
        "def FUNCTION ( [a] , / , [b] , * [c] , [d] , ** [e] ) : "
        "return a:parameter@3 , b:parameter@7 , c:parameter@10 , d:parameter@12 , e:parameter@15 NEWLINE",
    ),
    "a default is evaluated outside, even by the same name": (
        "def f(x=x, *, y=x): return x",
        "def FUNCTION ( [x] = x:outside , * , [y] = x:outside ) : return x:parameter@3 NEWLINE",
    ),
    "annotations are evaluated outside": (
        "def f(x: x, *a: A) -> a: return x",
        "def FUNCTION ( [x] : x:outside , * [a] : A:outside ) -> a:outside : return x:parameter@3 NEWLINE",
    ),
    "a walrus in a default binds outside": (
        "def f(x=(y := 1)): return y",
        "def FUNCTION ( [x] = ( [y] := NUMBER ) ) : return y:outside NEWLINE",
    ),
    "local": ("def f():\n y = z\n return y", START + "[y] = z:outside NEWLINE return y:local@7 NEWLINE DEDENT"),
    "a parameter bound again stays a parameter, linked to the signature": (
        "def f(x):\n x = x\n return x",
        X + "[x] = x:parameter@3 NEWLINE return x:parameter@3 NEWLINE DEDENT",
    ),
    "a use before the binding has no link": (
        "def f():\n while 1:\n  use(x)\n  x = x",
        START + "while NUMBER : NEWLINE INDENT use:outside ( x:local ) NEWLINE [x] = x:local@17 NEWLINE DEDENT DEDENT",
    ),
    "unpacking, for, with": (
        "def f():\n for a, *b in a: pass\n with b as c, d() as (e, f.g): c, e",
        START
        + "for [a] , * [b] in a:local@8 : pass NEWLINE "
        + "with b:local@11 as [c] , d:outside ( ) as ( [e] , f:outside . ATTRIBUTE ) : "
        + "c:local@20 , e:local@27 NEWLINE DEDENT",
    ),
    "except": (
        "def f():\n try: pass\n except E as e: e\n except (A, B) as e: raise e",
        START
        + "try : pass NEWLINE except E:outside as [e] : e:local@14 NEWLINE "
        + "except ( A:outside , B:outside ) as [e] : raise e:local@14 NEWLINE DEDENT",
    ),
    "except group": (
        "def f():\n try: pass\n except* E as e: e",
        START + "try : pass NEWLINE except * E:outside as [e] : e:local@15 NEWLINE DEDENT",
    ),
    "walrus": (
        "def f(x):\n if (y := x): return y",
        X + "if ( [y] := x:parameter@3 ) : return y:local@10 NEWLINE DEDENT",
    ),
    "adding to a name and deleting it are no uses": (
        "def f(x):\n x += x\n del x\n x.a += x[0]\n del x.a, x[x]",
        X + "[x] += x:parameter@3 NEWLINE del [x] NEWLINE "
        "x:parameter@3 . ATTRIBUTE += x:parameter@3 [ NUMBER ] NEWLINE "
        "del x:parameter@3 . ATTRIBUTE , x:parameter@3 [ x:parameter@3 ] NEWLINE DEDENT",
    ),
    "a declaration without value makes a local": (
        "def f():\n x: T\n x: T = 1\n return x",
        START + "[x] : T:outside NEWLINE [x] : T:outside = NUMBER NEWLINE return x:local@7 NEWLINE DEDENT",
    ),
    "import": (
        "def f():\n import a, b.c, d.e as g, h as i\n a, b, d, g, h, i",
        START + "import [a] , [b] . MODULE , MODULE . MODULE as [g] , MODULE as [i] NEWLINE "
        "a:imported@8 , b:imported@10 , d:outside , g:imported@18 , h:outside , i:imported@22 NEWLINE DEDENT",
    ),
    "import from": (
        "def f():\n from ..a.b import (c,\n  d as e); from . import g\n c, d, e, g, a",
        START
        + "from . . MODULE . MODULE import ( [c] , MODULE as [e] ) ; from . import [g] NEWLINE "
        + "c:imported@15 , d:outside , e:imported@19 , g:imported@25 , a:outside NEWLINE DEDENT",
    ),
    "imported and bound: imported": (
        "def f():\n try: import a\n except E: a = None\n return a",
        START + "try : import [a] NEWLINE except E:outside : [a] = None NEWLINE return a:imported@10 NEWLINE DEDENT",
    ),
    "a parameter imported: parameter": (
        "def f(x):\n import x\n return x",
        X + "import [x] NEWLINE return x:parameter@3 NEWLINE DEDENT",
    ),
    "global": (
        "def f():\n global a, b\n a = a\n import b; b",
        START + "global [a] , [b] NEWLINE [a] = a:outside NEWLINE import [b] ; b:outside NEWLINE DEDENT",
    ),
    "attributes, keywords of a call, soft keywords as names": (
        "def match(case, type):\n return case.match(type=type, **_.case).x",
        "def FUNCTION ( [case] , [type] ) : NEWLINE INDENT return case:parameter@3 . ATTRIBUTE "
        "( KEYWORD = type:parameter@5 , ** _:outside . ATTRIBUTE ) . ATTRIBUTE NEWLINE DEDENT",
    ),
    "match": (
        "def f(x):\n match x:\n  case [A.b, *c] | {'k': d, **e}: c, d, e\n"
        "  case P(1, q, case=s) as t if q: t\n  case _: x\n"
        "  case y: y",
        X + "match x:parameter@3 : NEWLINE INDENT "
        "case [ A:outside . ATTRIBUTE , * [c] ] | { STRING : [d] , ** [e] } : "
        "c:local@20 , d:local@26 , e:local@29 NEWLINE "
        "case P:outside ( NUMBER , [q] , KEYWORD = [s] ) as [t] if q:local@43 : t:local@50 NEWLINE "
        "case _ : x:parameter@3 NEWLINE case [y] : y:local@62 NEWLINE DEDENT DEDENT",
    ),
    "wildcards of match": (
        "def f(x):\n match x:\n  case [_, *_]: pass\n  case (_ as y): y",
        X + "match x:parameter@3 : NEWLINE INDENT case [ _ , * _ ] : pass NEWLINE "
        "case ( _ as [y] ) : y:local@27 NEWLINE DEDENT DEDENT",
    ),
    "an f-string is one token, and what it binds is bound": (
        "def f(x):\n return f'{x!r:>{x}} {{' f\"\"\"{(y := x)}\n\"\"\" 'a', y, rf'{x}'",
        X + "return STRING STRING STRING , y:local , STRING NEWLINE DEDENT",
    ),
    "strings of all sorts, numbers": (
        "def f(x):\n return b'', r'\\d', u'', '''\n''', 1_0, 0x1f, 1e-3j, x",
        X + "return STRING , STRING , STRING , STRING , NUMBER , NUMBER , NUMBER , x:parameter@3 NEWLINE DEDENT",
    ),
    "docstring, comments, blank lines and decorators are dropped": (
        '@wraps(f)\n@other\ndef f(x):  # why\n  # how\n\n  """Says\n  so."""\n\n  return (  # here\n   x)\n # end\n',
        X + "return ( x:parameter@3 ) NEWLINE DEDENT",
    ),
    "docstring beside code, and in parts": (
        "def f(x):\n ('a'\n 'b'); x\n 'not one'",
        X + "x:parameter@3 NEWLINE STRING NEWLINE DEDENT",
    ),
    "nothing but a docstring": ("def f(x): 'doc'", "def FUNCTION ( [x] ) :"),
    "async": (
        "async def f(x):\n async with x as y: await y\n async for z in x: yield z",
        "async def FUNCTION ( [x] ) : NEWLINE INDENT async with x:parameter@4 as [y] : await y:local@13 NEWLINE "
        "async for [z] in x:parameter@4 : yield z:local@20 NEWLINE DEDENT",
    ),
    "method: self is a parameter, class-level and private names are from outside": (
        "class A:\n  b = 1\n  def f(self):\n    __c = self.__d\n    return b, A, __class__, __c, __e",
        "def FUNCTION ( [self] ) : NEWLINE INDENT [__c] = self:parameter@3 . ATTRIBUTE NEWLINE "
        "return b:outside , A:outside , __class__:outside , __c:local@8 , __e:outside NEWLINE DEDENT",
    ),
    "blocks, deep": (
        "if 1:\n    def f(x):\n        if x:\n            x\n        else:\n            x",
        X + "if x:parameter@3 : NEWLINE INDENT x:parameter@3 NEWLINE DEDENT "
        "else : NEWLINE INDENT x:parameter@3 NEWLINE DEDENT DEDENT",
    ),
    "columns beyond ASCII, and names compared as the language does": (
        "def f(é, ﬁ):\n s = 'üü', é, ﬁ; return s, fi  # ä",
        "def FUNCTION ( [é] , [ﬁ] ) : NEWLINE INDENT [s] = STRING , é:parameter@3 , ﬁ:parameter@5 ; "
        "return s:local@10 , fi:parameter@5 NEWLINE DEDENT",
    ),
    "continued lines and form feeds": (
        "def f(x,\n\n  y):\n\x0c return x \\\n  + y",
        "def FUNCTION ( [x] , [y] ) : NEWLINE INDENT return x:parameter@3 + y:parameter@5 NEWLINE DEDENT",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_construct_has_the_role_and_link_the_language_gives_it(case):
    source, answer = CASES[case]
    assert drawn(source) == answer


def test_a_nested_function_is_kept_and_the_one_around_it_left_out():
    source = "def f(x):\n  y = 1\n  def g(z):\n    nonlocal y\n    y = z + x\n    return y\n  return g"
    [inner] = functions(source)
    assert (inner.qualname, inner.line) == ("f.<locals>.g", 3)
    assert drawn(source) == (
        "def FUNCTION ( [z] ) : NEWLINE INDENT nonlocal [y] NEWLINE [y] = z:parameter@3 + x:outside NEWLINE "
        "return y:outside NEWLINE DEDENT"
    )


INNER = {
    "lambda": "def f(x): return lambda: x",
    "list": "def f(x): return [y for y in x]",
    "set": "def f(x): return {y for y in x}",
    "dict": "def f(x): return {y: y for y in x}",
    "generator": "def f(x): return sum(y for y in x)",
    "class": "def f(x):\n class A: pass",
    "in a default": "def f(x=lambda: 1): return x",
    "in an annotation": "def f(x: [y for y in ()]): return x",
    "in an f-string": "def f(x): return f'{[y for y in x]}'",
}
if sys.version_info >= (3, 12):
    INNER["type parameter"] = "def f[T](x: T): return x"
    INNER["type alias"] = "def f(x):\n type y = x"


@pytest.mark.parametrize("case", INNER)
def test_a_function_that_opens_an_inner_scope_is_left_out(case):
    assert list(functions(INNER[case])) == []


def test_names_are_qualified_and_in_the_order_of_the_text():
    source = """
    def a(): 1
    class B:
        def c(self): 1
        class D:
            if a:
                async def e(self): 1
            else:
                def e(self): 1
    try:
        def g(): 1
    except E:
        def h(): 1
    match a:
        case 1:
            def i(): 1
    """
    functions_there = [(f.qualname, f.line) for f in functions(textwrap.dedent(source))]
    assert functions_there == [("a", 2), ("B.c", 4), ("B.D.e", 7), ("B.D.e", 9), ("g", 11), ("h", 13), ("i", 16)]


MODULES = [
    "argparse",
    "ast",
    "asyncio.base_events",
    "bisect",
    "codecs",
    "dataclasses",
    "difflib",
    "http.client",
    "inspect",
]


@pytest.mark.parametrize("name", MODULES)
def test_roles_are_those_of_symtable(name):
    source = inspect.getsource(importlib.import_module(name))
    tables = {}

    def collect(table, class_name):
        for child in table.get_children():
            is_class = child.get_type() == "class"
            tables.setdefault((child.get_name(), child.get_lineno()), []).append((child, class_name))
            collect(child, child.get_name() if is_class else class_name)

    collect(symtable.symtable(source, name, "exec"), "")
    compared = 0
    for function in functions(source):
        [(table, class_name)] = tables[function.qualname.rpartition(".")[2], function.line]
        assert not table.get_children()
        signature_ends = function.words.index("NEWLINE")
        for position, (spelled, role, link) in enumerate(
            zip(function.spelling, function.roles, function.links, strict=True)
        ):
            if role < 0:
                continue
            private = class_name and spelled.startswith("__") and not spelled.endswith("__")
            mangled = f"_{class_name.lstrip('_')}{spelled}" if private else spelled
            if position < signature_ends and ROLES[role] == "outside":  # defaults: the scope around decides
                continue
            symbol = table.lookup(mangled)
            compared += 1
            if ROLES[role] == "parameter":
                assert symbol.is_parameter()
            elif ROLES[role] == "imported":
                assert symbol.is_imported() and symbol.is_local()
            elif ROLES[role] == "local":
                assert symbol.is_local() and not symbol.is_parameter() and not symbol.is_imported()
            else:
                assert symbol.is_global() or symbol.is_free()
            if link >= 0:
                assert link < position and function.spelling[link] == spelled and function.roles[link] == -1
    assert compared > 20


def test_every_word_is_in_the_vocabulary_once():
    assert len(set(WORDS)) == len(WORDS)
    for name in MODULES:
        for function in functions(inspect.getsource(importlib.import_module(name))):
            assert set(function.words) <= {None, *WORDS}
