"""Small templates, one point of the language each, for ../templates.py. `CONTEXT` is what they see."""

CONTEXT = {
    "name": "World",
    "empty": "",
    "n": 7,
    "neg": -3,
    "zero": 0,
    "big": 9007199254740993,
    "f": 2.5,
    "tiny": 1e-7,
    "huge": 1e22,
    "yes": True,
    "no": False,
    "nothing": None,
    "items": [3, 1, 2],
    "words": ["pear", "Apple", "fig", "apple"],
    "nested": [[1, 2], [3, 4], []],
    "d": {"b": 1, "a": 2, "C": {"x": [1, 2, {"y": "z"}]}},
    "people": [
        {"name": "Ann", "age": 30, "city": {"zip": "1"}, "ok": True},
        {"name": "bob", "age": 25, "city": {"zip": "2"}, "ok": False},
        {"name": "Cid", "age": 30, "city": {"zip": "1"}},
    ],
    "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": [{"v": 4, "c": []}]}]}],
    "uni": "Žluťoučký kůň 🐎 ß ŉ İ ΑΣ ΑΣΑ ǆ ﬁ",
    "quote": "it's \"quoted\" \\ back",
    "html": "<a href='x'>&\"</a>",
    "lines": "one\ntwo\r\nthree\n\nfive",
    "spaced": "  \t padded\u00a0 \n",
    "csv": "a,b,,c",
    "num": "42",
    "keys": {"items": "shadow", "get": 1, "plain": 2},
    "ctrl": "\u0001\u001f\u007f\u0085\u00ad\u2028\ufeff",
}

PRINT = r"""
1
-1
+1
1_000
0x1F
0b101
0o17
00
1.5
1e3
1.5e-7
1E5
.5|default(1)
1.0
100000000000000000.0
1e16
123456789012345.0
0.0001
0.00001
0.1+0.2
2.50
-0.0
'a'
"a"
'it''s'
'a' "b" 'c'
'a\nb\tc'
'\x41\u00e9\U0001F600'
'\q\d'
'\''
"\""
'\101\0'
'\é'
'multi
line'
true
True
false
none
None
[]
[1]
[1,2,]
[1,'a',none,true,2.0]
()
(1)
(1,)
(1,2)
1,2
{}
{'a':1}
{'a':1,'b':[1,{'c':none}],}
{1:2,none:3,true:4,(1,2):5}
{1:'a',1.0:'b',true:'c'}
{'a':1,'a':2}
name
missing
nothing
yes
items
d
nested
people[0]
d.C.x[2].y
d['C']['x'][2]['y']
d.C.x.2.y
d.missing
d['missing']
d.b
keys['items']
keys.plain
keys.get('plain')
d.get('zz')
d.get('zz', 5)
d.get('a')
d.items()|list
d.keys()|list
d.values()|list
d.items()
d.keys()
d.values()
d.copy()
items[0]
items[-1]
items[99]
items['x']
items[true]
name[0]
name[-1]
name[99]
uni[0]
uni[14]
uni|length
(1,2,3)[1]
range(5)
range(5)|list
range(2,8,3)|list
range(5,0,-2)|list
range(0)|list
range(5)[2]
range(5)[-1]
range(10)[2:5]|list
range(10)[::-3]|list
range(3)|length
items[:]
items[1:]
items[:-1]
items[::-1]
items[::2]
items[5:]
items[-2:]
items[:0]
items[2:0:-1]
name[1:3]
name[::-1]
name[-3:-1]
uni[::-1]
uni[2:16:3]
uni[10:]
(1,2,3)[::-1]
name[none:2]
nested[0][1]
nested[2]
1+2
1+2*3
(1+2)*3
7-10
7/2
6/2
7//2
-7//2
7//-2
7%3
-7%3
7%-3
7.5//2
-7.5//2
7.5%2
-7.5%2
1.5+1
2**10
2**-1
2**0.5
2**3**2
-2**2
(-2)**2
0**0
1/3
10**15
10**17*1.0
big
big+1
big*1.0
n*f
true+true
true*3
'ab'*3
3*'ab'
'ab'*0
'ab'*-1
[1,2]*2
2*[0]
(1,)*3
'a'+'b'
[1]+[2,3]
(1,)+(2,)
'a'~'b'
1~2
'a'~1~none~true~1.5
'a'~missing~'b'
[1]~{'a':2}
1+1~'x'
1~1+1
'%s-%s' % (1,'a')
'%s' % 'x'
'%d' % 3.7
'%5d|%-5d|%05d' % (1,2,3)
'%+d % d' % (5,5)
'%x %X %o %#x %#o' % (255,255,8,255,8)
'%.2f %5.1f %-8.3f|' % (3.14159,2.25,1.0)
'%e %.3E' % (12345.678,0.00012)
'%g %g %g %G' % (0.0001,1e10,100000,1e-10)
'%c%c' % (65,'b')
'%r %s' % ('a','a')
'%%'|string % ()
'100%% %s' % 'x'
'%(a)s %(b)05d' % {'a':'x','b':7}
'%s' % [1]
'%s' % ([1],)
'%s' % none
'%.3s|%5s|%-5s|' % ('abcdef','ab','cd')
'%*d' % (5,3)
'%.*f' % (2,3.14159)
'%i %u' % (3,4)
'%5s' % 'é'
'x' % {}
1==1.0
1==true
'a'=='a'
'a'!='b'
[1,2]==[1,2]
[1]==(1,)
{'a':1}=={'a':1.0}
{'a':1,'b':2}=={'b':2,'a':1}
none==none
none==false
missing==missing
missing==none
missing==''
1<2
1<=1
2>1
2>=3
1<2<3
1<3<2
3>2>1
1<2>1
1==1==1
'a'<'b'
'B'<'a'
'é'>'z'
'a'<'ab'
[1,2]<[1,3]
[1]<[1,0]
(1,'a')<(1,'b')
1<1.5
true<2
1 in [1,2]
3 in [1,2]
1.0 in [1]
'a' in 'cat'
'' in 'cat'
'x' not in 'cat'
'a' in {'a':1}
'a' in d.keys()
2 in d.values()
('a',2) in d.items()
1 in missing
3 in range(5)
3.0 in range(5)
'x' in range(5)
not true
not not 1
not []
not missing
not 1 == 2
not 'a' in 'b'
1 and 2
0 and 2
1 or 2
0 or 2
'' or 'default'
none or missing or 'x'
1 and 2 or 3
0 and 1 or 2
1 or 0 and 0
missing and 1
'a' if true else 'b'
'a' if false else 'b'
'a' if false
('a' if false)|default('dflt')
'a' if no else 'b' if no else 'c'
1 if yes else 2 + 3
(1 if no else 2) + 3
'x' if missing is defined else 'y'
[1,2][0] if yes
-n
+n
-f
- -1
-neg
-name|length
(-neg)|abs
-1|abs
-5 + 3
2 - -1
n is defined
missing is defined
missing is undefined
missing is not defined
d.q is defined
d.b is defined
nothing is none
nothing is not none
name is string
n is string
n is number
f is number
yes is number
name is number
n is integer
yes is integer
f is integer
f is float
n is float
yes is boolean
n is boolean
yes is true
no is false
n is true
1 is true
d is mapping
items is mapping
items is sequence
name is sequence
d is sequence
n is sequence
d.items() is sequence
range(3) is sequence
missing is sequence
items is iterable
name is iterable
n is iterable
none is iterable
missing is iterable
d.items() is iterable
(items|map('string')) is iterable
(items|map('string')) is sequence
range is callable
name is callable
name.upper is callable
missing is callable
namespace is callable
n is odd
n is even
n is divisibleby 7
n is divisibleby(2)
n is eq 7
n is eq(7)
n is equalto 8
n is ne 8
n is lt 8
n is le 7
n is gt 8
n is ge 7
n is lessthan 8
n is greaterthan 8
n is in [7,8]
n is not in [7,8]
'a' is in 'abc'
n is sameas 7
nothing is sameas none
yes is sameas true
yes is sameas 1
items is sameas items
'abc' is lower
'ABC' is upper
'aBc' is lower
'123' is lower
n is upper
'upper' is filter
'nosuch' is filter
'odd' is test
'nosuch' is test
html is escaped
(html|escape) is escaped
n is defined and n > 3
not n is defined
n is string or n is number
n is not string and n
name is string if yes else no
name|upper
name|lower
'hELLO wORLD'|capitalize
'hello wORLD foo-bar (baz) [x] {y} <z>'|title
'hello world'.title()
"it's o'neil".title()
uni|upper
uni|lower
uni|title
uni|capitalize
uni.title()
uni.swapcase()
uni.casefold()
'Straße'.upper()
'ΑΣ'|lower
'ΑΣ. Β'|lower
'Ǆ'|lower
spaced|trim
'[' ~ spaced ~ ']'
spaced.strip()|tojson
spaced.lstrip()|tojson
spaced.rstrip()|tojson
'xxaxx'|trim('x')
'xyaxy'.strip('xy')
'xyaxy'.lstrip('xy')
'xyaxy'.rstrip('yx')
'ééaé'.strip('é')
'abc'.strip('')
name|length
name|count
items|length
d|length
missing|length
''|length
items|first
items|last
name|first
name|last
[]|first
[]|last
[]|first is defined
missing|first
missing|last
d|first
d|last
items|join
items|join(',')
items|join(', ')
words|join('-')
people|join(',', attribute='name')
people|join(attribute='age')
name|join('.')
d|join(',')
[1,none,true,2.0]|join('|')
missing|join(',')
items|sort
items|sort(reverse=true)
words|sort
words|sort(case_sensitive=true)
words|sort(true)
people|sort(attribute='age')|map(attribute='name')|list
people|sort(attribute='age', reverse=true)|map(attribute='name')|list
people|sort(attribute='age,name')|map(attribute='name')|list
people|sort(attribute='city.zip')|map(attribute='name')|list
d|sort
[[2,1],[1,2]]|sort
['b',('a')]|sort
words|unique|list
words|unique(case_sensitive=true)|list
[1,1.0,true,2]|unique|list
people|unique(attribute='age')|map(attribute='name')|list
items|reverse|list
name|reverse
uni|reverse
d|reverse|list
(items|map('string'))|reverse|list
items|list
name|list
d|list
range(3)|list
missing|list
items|sum
[0.1,0.2]|sum
[]|sum
people|sum(attribute='age')
[[1],[2]]|sum(start=[])
items|sum(start=10)
items|min
items|max
words|min
words|max
words|max(case_sensitive=true)
people|min(attribute='age')
people|max(attribute='age')|tojson
[]|min
[]|max|default('none')
items|map('string')|list
items|map('string')|join('+')
words|map('upper')|list
words|map('replace','a','o')|list
people|map(attribute='name')|list
people|map(attribute='city.zip')|list
people|map(attribute='ok')|list
people|map(attribute='ok', default='dflt')|list
nested|map('first')|list
nested|map(attribute=0)|list
nested|map('sum')|list
nested|map('length')|list
[]|map('upper')|list
missing|map('upper')|list
none|map('upper')|list
items|select('odd')|list
items|select('gt',1)|list
items|select('>',1)|list
items|select('in',[1,2])|list
items|reject('odd')|list
[0,1,'',none,'a']|select|list
[0,1,'',none,'a']|reject|list
people|selectattr('ok')|map(attribute='name')|list
people|rejectattr('ok')|map(attribute='name')|list
people|selectattr('age','equalto',30)|map(attribute='name')|list
people|selectattr('age','==',30)|list|length
people|selectattr('ok','defined')|list|length
people|rejectattr('city.zip','eq','1')|map(attribute='name')|join
people|selectattr('name','in',['Ann','Cid'])|map(attribute='age')|sum
people|map(attribute='age')|select('gt',26)|list
none|select|list
d|dictsort
d|dictsort(true)
d|dictsort(false,'key',true)
{'a':2,'b':1}|dictsort(by='value')
d|items|list
missing|items|list
items|batch(2)|list
items|batch(2,'x')|list
range(7)|slice(3)|list
range(7)|slice(3,'x')|list
[]|batch(2)|list
people|groupby('age')
people|groupby('age')|map(attribute='grouper')|list
people|groupby('age')|map('list')|list
people|groupby('age')|map(attribute='list')|map('length')|list
people|groupby('name')|map(attribute=0)|list
people|groupby('ok', default='zz')|map('first')|list if no else 'skip'
missing|default('x')
missing|default
missing|d('x')
nothing|default('x')
nothing|default('x', true)
empty|default('x')
empty|default('x', boolean=true)
d.nope|default('x')
d.nope.nope is defined if no else 1
no|default('x')
no|default('x',true)
'42'|int
'4x'|int
'4x'|int(7)
'3.9'|int
' 12 '|int
'-5'|int
'+5'|int
'1_000'|int
'0x1A'|int(base=16)
'0x1A'|int(0,16)
'ff'|int(base=16)
'101'|int(base=2)
'z'|int(base=36)
3.9|int
-3.9|int
true|int
none|int
none|int(9)
items|int
''|int
'1e3'|int
'inf'|int
'nan'|int(3)
'12'|float
'1.5'|float
'1e-3'|float
'x'|float
'x'|float(2.5)
none|float
3|float
true|float
'inf'|float
'-Infinity'|float
'nan'|float
'1_0.5'|float
' .5 '|float
'5.'|float
'0x10'|float
'1e'|float
2.5|round
3.5|round
2.675|round(2)
2.567|round(1)
-2.5|round
2.1|round(method='ceil')
2.9|round(0,'floor')
2.123|round(2,'ceil')
2.129|round(2,'floor')
5|round
1234|round(-2)
1250|round(-2)
1350|round(-2)
-1250|round(-2)
1234.5|round(-2)
5|round(2)
true|round
1e20|round
neg|abs
-2.5|abs
true|abs
n|string
n|string|length
1.0|string
none|string
items|string
missing|string
html|escape
html|e
html|safe
html|e|e
html|forceescape
(html|e)|forceescape
(html|e)|string is escaped
html|safe|upper
('<'|safe) + '<'
'<' + ('<'|safe)
('<'|e) ~ '<'
('<%s>'|safe) % '<'
('<%s>'|safe)|format('<')
('a'|safe).join(['<','>'])
('<'|safe) * 2
('<'|safe).replace('<','&')
('a,<'|safe).split(',')
('<{}>'|safe).format('<')
['<'|safe, '<']|join(',')
'x'|safe|tojson
name|replace('o','0')
name|replace('l','L',1)
'aaa'|replace('a','b',2)
'aaa'|replace('','-')
'aaa'|replace('','-',2)
123|replace(2,'x')
'a.b.c'.replace('.','')
'aaa'.replace('a','b',1)
'aaa'.replace('aa','b')
'aaa'.replace('','-')
''.replace('','x')
'abc'|center(9)
'abcd'|center(9)
'[' ~ 'abc'|center(8) ~ ']'
'ab'.center(7,'*')
'abc'.center(8,'*')
'ab'.ljust(5,'.')
'ab'.rjust(5)
'42'.zfill(5)
'-42'.zfill(5)
'é'.center(4,'ü')
'one two three four'|truncate(9)
'one two three four'|truncate(9, leeway=0)
'one two three four'|truncate(9,true,leeway=0)
'one two three four'|truncate(9,true,'>>',0)
'onetwothree'|truncate(6,leeway=0)
'short'|truncate
'one  two'|truncate(7,false,'..',0)
lines|indent
lines|indent(2)
lines|indent(2,true)
lines|indent(2,first=true,blank=true)
lines|indent('> ',true)
''|indent
'a'|indent(first=true)
lines.splitlines()
lines.splitlines(true)
'a\x0bb\x1cc\x85d'.splitlines()
''.splitlines()
'\n'.splitlines()
'a\n'.splitlines()
'one two  three'|wordcount
'a-b c_d 1.5 é'|wordcount
''|wordcount
'%s, %s!'|format('Hi','you')
'%(a)s'|format(a='x')
'%d%%'|format(50)
'{} {}'.format('a',1)
'{0} {1} {0}'.format('a','b')
'{a} {b[0]} {b[1][k]} {c.x}'.format(a=1,b=[2,{'k':3}],c={'x':9})
'{:>5}|{:<5}|{:^5}|{:*^7}'.format('a','b','c','d')
'{:5}|{:5}'.format('a',1)
'{:05d} {:+d} {: d} {:x} {:#x} {:X} {:b} {:#b} {:o}'.format(42,42,42,255,255,255,5,5,8)
'{:,} {:_}'.format(1234567,1234567)
'{:.2f} {:8.3f}| {:e} {:g} {:%} {:.1%}'.format(3.14159,2.5,12345.678,0.0001,0.25,0.123)
'{:,.2f}'.format(1234567.891)
'{:.3}'.format('abcdef')
'{:.3}'.format(3.14159)
'{} {}'.format(1.0,none)
'{!r} {!s}'.format('a','a')
'{{}} {}'.format(1)
'{:{}}|'.format('a',5)
'{:>{w}}'.format('a',w=4)
'{:05.1f}'.format(2.5)
'{:<05d}|'.format(42)
'{:=+6d}'.format(42)
'{:05}'.format('ab')
'{}'.format([1,'a'])
'a,b,c'.split(',')
'a,b,c'.split(',',1)
csv.split(',')
' a  b '.split()
' a  b  c '.split(none,1)
'  a b '.split(none,0)
' a  b  c '.rsplit(none,1)
'a,b,c'.rsplit(',',1)
'a,b,c'.rsplit(',')
'abc'.split('')|string if no else 'skip'
''.split()
''.split(',')
'aXXbXXc'.split('XX')
'a b c'.split(sep=' ', maxsplit=1)
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('-')
'abc'.rpartition('-')
'hello'.startswith('he')
'hello'.startswith('lo')
'hello'.startswith(('x','he'))
'hello'.startswith('l',2)
'hello'.startswith('',9)
'hello'.endswith('lo')
'hello'.endswith(('a','o'))
'hello'.endswith('l',0,4)
'hello'.find('l')
'hello'.find('l',3)
'hello'.find('z')
'hello'.find('')
'hello'.find('l',-2)
'hello'.rfind('l')
'hello'.index('e')
'hello'.rindex('l')
'hello'.count('l')
'aaaa'.count('aa')
'abc'.count('')
'ééa'.find('a')
'ééa'.rfind('é')
'hello'.removeprefix('he')
'hello'.removesuffix('lo')
'hello'.removeprefix('x')
','.join(['a','b'])
','.join('abc')
''.join([])
'a\tb\t'.expandtabs(4)
'abc'.isalpha()
'ab1'.isalpha()
''.isalpha()
'123'.isdigit()
'²'.isdigit()
'²'.isdecimal()
'½'.isnumeric()
'a1'.isalnum()
' \t'.isspace()
'ABC'.isupper()
'AbC'.isupper()
'abc1'.islower()
'Hello World'.istitle()
'abc'.isascii()
'é'.isascii()
'a b'.isidentifier()
'_a1'.isidentifier()
'a\n'.isprintable()
'hello'.upper().lower().title()
'hello'.capitalize()
'hELLO'.swapcase()
[1,2,1].count(1)
[1,2,1].index(2)
(1,2,1).count(1)
(1,2).index(2)
d|tojson
items|tojson
name|tojson
quote|tojson
uni|tojson
ctrl|tojson
html|tojson
uni|tojson(ensure_ascii=true)
ctrl|tojson(true)
nothing|tojson
f|tojson
[1.0,1e100,1e-7,true,none]|tojson
d|tojson(indent=2)
d|tojson(indent=4)
nested|tojson(indent=2)
[]|tojson(indent=2)
{}|tojson(indent=2)
d|tojson(indent=0)
d|tojson(indent='--')
d|tojson(sort_keys=true)
d|tojson(separators=(',',':'))
d|tojson(indent=2,separators=(',',': '))
(1,2)|tojson
{1:2,none:3,true:4,1.5:6}|tojson
'inf'|float|tojson
'nan'|float|tojson
d.items()|list|tojson
(d|dictsort)|tojson
'\/<>&'|tojson
quote
[quote]
["it's"]
['say "hi"']
["both ' and \""]
['tab\t nl\n cr\r back\\']
[ctrl]
[uni]
['\x00\x7f']
{'k':'v'}|string
[1.0, 1e20, -0.0, 1e-5]
[none, true, missing]
namespace(a=1, b='x')
namespace({'a':1}, b=2)
namespace()
namespace(a=1).a
namespace(a=1).b
namespace(a=1)['a']
dict(a=1, b=2)
dict({'a':1}, b=2)
dict([('a',1),('b',2)])
dict()
loop is defined
cycler is defined
range is defined
raise_exception is defined
strftime_now is defined
strftime_now('%Y-%m-%d')
strftime_now('%d %b %Y')
strftime_now('%A %a %B %j %U %w %y %e %H:%M:%S %I %p %%')
strftime_now('%-d/%-m')
strftime_now('plain')
name|attr('upper') is callable
d|attr('b') is defined
''.__class__
''.__class__ is defined
[].append is defined
[].append
d._private is defined
d.__class__ is defined
d.__nope__ is defined
lines|tojson
(name ~ '!')|upper
name|upper|lower|title
[name|upper, name|lower]
{'a': name|upper}['a']
(items|sort)[0]
items|sort|first + 1
items|map('string')|map('int')|sum
people[0].name[0]|lower
(people|first).city.zip|int + 1
'a' if 'x' in d else 'b' ~ 'c'
(1,2)|first
'abc'|list|reverse|join
not (1 in [1]) or 1
1 if 1 in [1,2] and 2 not in [3] else 0
[[1,2],[3]]|sum(start=[])|length
{'a':{'b':{'c':5}}}.a.b.c
{'a b':1}['a b']
items[items[1]]
name[n-7]
n if n > 5 and n < 10 else -n
"{{ not a tag }}"
'{% raw %}'
'a' 'b'|upper
(('a','b'),('c',))[0][1]
"a" is eq "a"
1.5 is eq 1.5
items is eq [3,1,2]
[1,2]|string ~ 'x'
n ~ ''|string
''|default('d', true) ~ 'x'
10 // 3 * 3 + 10 % 3
2 * 3 ** 2
100 - 10 - 5
100 / 10 / 5
1 - 1 ~ 1
"%s" % missing
[missing|default(1)]
{'x': missing}|string
missing.x is defined if no else 'guarded'
d.values()|sum(start=0) if no else 0
'abcdef'[1:5:2]
'abc'[5:]
'abc'[:-5]
[1,2,3][-100:100]
[1,2,3][1:1]
[1,2,3][::-2]
range(10)[8:2:-2]|list
(range(5)|list)[1:3]
true and 'x' or 'y'
none is none
none is not none
(none) is none
range(4)[5:1:-2]
range(10)[::3]
range(10)[1:1]
range(4).index(2)
range(4).count(9)
missing.__class__
[html|safe|last, html|safe|first]
('<'|e).expandtabs()|string ~ '<'
[1,2,3]|truncate(5)
'one two three'|safe|truncate(8,end='<',leeway=0)
none ~ ''
'ab' < 'b' and 'b' > 'ab'
'\u00e9' == 'é'
"a" * 3 ~ "b"
1 == 1 and 2 == 2
'a' == 'a' == 'a'
1 < 2 == true
(1 < 2) == true
""" + "\n"

STATEMENTS = [
    "",
    "plain text",
    "{ not } a {tag}",
    "a{# comment #}b",
    "a {# multi\nline #} b",
    "a\n{# c #}\nb",
    "a\n  {# c #}\nb",
    "a\n  {#- c -#}\n  b",
    "{# a #}{# b #}x",
    "{{ name }}\n",
    "{{ name }}\n\n",
    "line\r\nline2\rline3\n",
    "{{- name -}}",
    "a {{- name -}} b",
    "a \n {{- name -}} \n b",
    "a {{ name }} b",
    "  {{ name }}  ",
    "  {{+ name }}  ",
    "{% if yes %}A{% endif %}",
    "{% if no %}A{% else %}B{% endif %}",
    "{% if no %}A{% elif yes %}B{% else %}C{% endif %}",
    "{% if no %}A{% elif no %}B{% elif zero %}C{% else %}D{% endif %}",
    "{% if no %}A{% elif no %}B{% endif %}",
    "{% if n > 3 and name %}A{% endif %}",
    "x\n{% if yes %}\nA\n{% endif %}\ny",
    "x\n    {% if yes %}\n    A\n    {% endif %}\ny",
    "x\n    {%- if yes %}\n    A\n    {%- endif %}\ny",
    "x\n    {%- if yes -%}\n    A\n    {%- endif -%}\n\n\ny",
    "x\n    {%+ if yes %}\n    A\n    {%+ endif %}\ny",
    "x {% if yes %} A {% endif %} y",
    "x {% if yes +%}\nA{% endif +%}\ny",
    "x\n {{ 'a' }} {% if yes %}b{% endif %}\n",
    "{% if yes %}  {% if yes %}  x{% endif %}{% endif %}",
    "a\n \t {% if yes %}b{% endif %}",
    "a\n \u00a0 {% if yes %}b{% endif %}",
    "{% for i in items %}{{ i }},{% endfor %}",
    "{% for i in items -%}\n  {{ i }}\n{%- endfor %}",
    "{% for i in items %}\n{{ i }}\n{% endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %}",
    "{% for i in items %}x{% else %}empty{% endfor %}",
    "{% for i in missing %}x{% else %}empty{% endfor %}",
    "{% for c in name %}{{ c }}-{% endfor %}",
    "{% for c in 'éß' %}{{ c }}-{% endfor %}",
    "{% for k in d %}{{ k }} {% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d|items %}{{ k }};{% endfor %}",
    "{% for k, v in d|dictsort %}{{ k }};{% endfor %}",
    "{% for a, b in [(1,2),[3,4],'xy'] %}{{ a }}{{ b }} {% endfor %}",
    "{% for (a, b), c in [((1,2),3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, (b, c) in [(1,(2,3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, in [(1,)] %}{{ a }}{% endfor %}",
    "{% for i in 1,2,3 %}{{ i }}{% endfor %}",
    "{% for i in range(3) %}{{ i }}{% endfor %}",
    "{% for i in items %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for i in items %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}",
    "{% for i in items %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}",
    "{% for i in items %}{{ loop.cycle('a','b') }}{% endfor %}",
    "{% for i in [1,1,2,2,1] %}{{ loop.changed(i) }} {% endfor %}",
    "{% for i in [1,1,2,2,1] %}{% if loop.changed(i) %}{{ i }}{% endif %}{% endfor %}",
    "{% for i in items %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}",
    "{% for i in items %}{{ loop }}{% endfor %}",
    "{% for i in items %}{{ loop.nope is defined }}{% endfor %}",
    "{% for i in items %}{{ loop|length }}{% endfor %}",
    "{% for i in items if i > 1 %}{{ i }}{% endfor %}",
    "{% for i in items if i > 1 %}{{ loop.index }}/{{ loop.length }}:{{ loop.last }} {% endfor %}",
    "{% for i in items if i > 9 %}x{% else %}none{% endfor %}",
    "{% for k, v in d.items() if v is number %}{{ k }}{% endfor %}",
    "{% for p in people if p.ok is defined and p.ok %}{{ p.name }}{% endfor %}",
    "{% for i in items|map('string') %}{{ i }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for i in items|select('odd') %}{{ loop.revindex }}{{ loop.nextitem }} {% endfor %}",
    "{% for r in nested %}{% for c in r %}{{ loop.index }}{{ c }}{% endfor %}|{% endfor %}",
    "{% for r in nested %}{% set outer = loop %}{% for c in r %}{{ outer.index }}.{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for r in nested %}{% for c in r if loop.index0 != 1 %}{{ c }}{% endfor %}|{% endfor %}",
    "{% for n in tree recursive %}{{ n.v }}[{{ loop(n.c) }}]{% endfor %}",
    "{% for n in tree recursive %}{{ loop.depth }}{{ n.v }}{% if n.c %}({{ loop(n.c) }}){% endif %}{% else %}E{% endfor %}",
    "{% for i in items %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in items %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in items %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% else %}E{% endfor %}",
    "{% for i in items %}{% for j in items %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% for i in items %}{% for j in [] %}{% else %}{% break %}{% endfor %}{{ i }}{% endfor %}done",
    "{% for i in items %}{% filter upper %}a{% if i == 1 %}{% continue %}{% endif %}b{% endfilter %}{{ i }}{% endfor %}",
    "{% for i in items %}{% set x %}a{% if i == 1 %}{% break %}{% endif %}b{% endset %}{{ x }}{{ i }}{% endfor %}",
    "{% for i in items %}{% with a=i %}{% if a == 1 %}{% continue %}{% endif %}{{ a }}{% endwith %}{% endfor %}",
    "{% set x = 1 %}{{ x }}",
    "{% set x = 1 %}{% set x = x + 1 %}{{ x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set (a, b) = [3, 4] %}{{ a }}{{ b }}",
    "{% set x %}block {{ name }}{% endset %}[{{ x }}]",
    "{% set x | upper %}block{% endset %}{{ x }}",
    "{% set x | upper | replace('B','c') %}block{% endset %}{{ x }}",
    "{% set x %}{% endset %}[{{ x }}]{{ x is string }}",
    "{% set x = 1 %}{% for i in items %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}",
    "{% set x = 1 %}{% if yes %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% if no %}{% set x = 2 %}{% endif %}{{ x is defined }}",
    "{% if no %}{% set name = 2 %}{% endif %}{{ name }}",
    "{% for i in items %}{% set name = i %}{% endfor %}{{ name }}",
    "{% for i in items %}{% if loop.first %}{% set q = i %}{% endif %}{{ q }};{% endfor %}",
    "{% for i in items %}{{ name }}{% endfor %}{% set name = 1 %}{{ name }}",
    "{% for i in items %}{{ name }}{% endfor %}{% if yes %}{% set name = 1 %}{% endif %}{{ name }}",
    "{{ name }}{% for i in items %}{{ name }}{% endfor %}{% set name = 1 %}{{ name }}",
    "{% macro m() %}{{ name }}{% endmacro %}{{ m() }}{% set name = 'new' %}{{ m() }}",
    "{% macro m() %}{{ name }}{% endmacro %}{% if yes %}{% set name = 'new' %}{% endif %}{{ m() }}",
    "{% macro m() %}{{ q }}{% endmacro %}{{ m() }}{% set q = 'new' %}{{ m() }}",
    "{% for i in items %}{% for j in [1] %}{{ name }}{% endfor %}{% set name = i %}{{ name }}{% endfor %}",
    "{% for i in [1] %}{% macro z() %}{{ i }}{{ name }}{% endmacro %}{{ z() }}{% endfor %}",
    "{% set ns = namespace(x=1) %}{% for i in items %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b = [ns.a] %}{{ ns.b }}{{ ns }}",
    "{% set ns = namespace(a=1,b=2) %}{% set ns.a, ns.b = ns.b, ns.a %}{{ ns.a }}{{ ns.b }}",
    "{% set ns = namespace(found=false) %}{% for i in items if not ns.found %}{{ i }}{% set ns.found = true %}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for i in items if ns.n < 2 %}{% set ns.n = ns.n + 1 %}{{ i }}{{ loop.index }}{% endfor %}",
    "{% set ns = namespace(s='') %}{% for i in range(50) %}{% set ns.s = ns.s ~ i %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace(s='', t='') %}{% for i in range(200) %}{% set ns.t = ns.s + 'y' %}{% set ns.s = ns.s + 'x' %}{% endfor %}{{ ns.s }}{{ ns.t }}",
    "{% set ns = namespace(l=[]) %}{% for i in range(20) %}{% set a = ns.l + [0] %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.l }}{{ a }}",
    "{% set ns = namespace(x=1) %}{% set y = ns %}{% set y.x = 2 %}{{ ns.x }}",
    "{% set ns = namespace(d={}) %}{% set ns.d = dict(ns.d, a=1) %}{{ ns.d }}",
    "{% macro m(a) %}[{{ a }}]{% endmacro %}{{ m(1) }}{{ m('x') }}",
    "{% macro m(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=5, a=4) }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}",
    "{% macro m(a) %}{{ a }}|{{ a is defined }}{% endmacro %}{{ m() }}",
    "{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, z=4) }}",
    "{% macro m() %}{{ varargs|join(',') }}{% endmacro %}{{ m(*items) }}",
    "{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(**{'a':1,'b':2}) }}{{ m(*[3,4]) }}{{ m(5, *[6]) }}",
    "{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(5) }}",
    "{% macro m() %}{% set x = 5 %}{{ x }}{% endmacro %}{{ m() }}{{ x is defined }}",
    "{% macro m() -%}\n  text\n{%- endmacro %}[{{ m() }}]",
    "{% macro m() %}a{% endmacro %}{{ m.name }}{{ m() ~ 'b' }}{{ m()|upper }}",
    "{% macro a() %}A{% endmacro %}{% macro b() %}{{ a() }}B{% endmacro %}{{ b() }}",
    "{% macro b() %}{{ a() }}B{% endmacro %}{% macro a() %}A{% endmacro %}{{ b() }}",
    "{% macro m(f) %}{{ f(1) }}{% endmacro %}{% macro g(x) %}<{{ x }}>{% endmacro %}{{ m(g) }}",
    "{% if yes %}{% macro m() %}A{% endmacro %}{% else %}{% macro m() %}B{% endmacro %}{% endif %}{{ m() }}",
    "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}inner{% endcall %}",
    "{% macro m(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) m(3) %}{{ y }}{{ name }}{% endcall %}",
    "{% macro m() %}{% for i in items %}{{ caller(i, i*2) }}{% endfor %}{% endmacro %}{% call(a, b=0) m() %}{{ a }}-{{ b }} {% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% if caller %}{{ caller() }}{% endif %}{% endmacro %}{{ m() }}{% call m() %}x{% endcall %}",
    "{% macro o() %}[{% call i() %}{{ name }}{% endcall %}]{% endmacro %}{% macro i() %}({{ caller() }}){% endmacro %}{{ o() }}",
    "{% for i in items %}{% macro m() %}{{ i }}{{ loop.index }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% filter upper %}abc {{ name }}{% endfilter %}",
    "{% filter replace('a','b')|upper %}aaa{% endfilter %}",
    "{% filter trim %}  x  {% endfilter %}",
    "{% filter indent(2, true) %}a\nb{% endfilter %}",
    "{% with %}{% set x = 1 %}{{ x }}{% endwith %}{{ x is defined }}",
    "{% with a=1, b=2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% set a = 9 %}{% with a=1, b=a %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with a, b = [1, 2] %}{{ a }}{{ b }}{% endwith %}",
    "{% raw %}{{ name }}{% if %}{% endraw %}",
    "a {% raw -%}  {{ x }} {%- endraw %} b",
    "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\nb",
    "{%- raw -%} x {%- endraw -%} y",
    "{% raw %}{# c #}{% endraw %}",
    "{% generation %}assistant {{ name }}{% endgeneration %}",
    "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}",
    "{% for i in items %}{% generation %}{{ i }}{{ loop.last }}{% endgeneration %}{% endfor %}",
    "{%- generation -%}  a  {%- endgeneration -%}  b",
    "{% print 1, 'a' %}",
    "{% print name|upper %}",
    "{% if yes: %}A{% endif %}",
    "{% for i in items: %}{{ i }}{% endfor %}",
    "{{ 'a\nb' }}",
    "{{ '''' }}",
    "{{ {'a': {'b': 1}}['a']['b'] }}",
    "{{ {'a': {}} }}",
    "{{ [{'a': '}}'}] }}",
    "{{ '%}' }}{% if '%}' %}x{% endif %}",
    "{%if yes%}A{%endif%}",
    "{{name}}{{n}}",
    "{{  name  }}",
    "{{\nname\n}}",
    "{% set\nx\n=\n1\n%}{{ x }}",
    "{% set x = {'a': 1,\n 'b': 2} %}{{ x }}",
    "{% if\nyes\n%}A{% endif %}",
    "{{ name }}{% set name = 'x' %}{{ name }}",
    "{% set loop = 5 %}{{ loop }}",
    "{% set range = 5 %}{{ range }}",
    "{% set messages = [1] %}{{ messages }}",
    "{% set g = items|map('string') %}{{ g|list }}{{ g|list }}",
    "{% set g = items|reverse %}{{ g|first }}{{ g|list }}",
    "{% set g = items|select('odd') %}{% for i in g %}{{ i }}{% endfor %}{% for i in g %}{{ i }}{% else %}gone{% endfor %}",
    "{% set g = items|map('string') %}{% for i in g %}{{ i }}{% break %}{% endfor %}{{ g|list }}",
    "{% set g = items|map('string') %}{% for i in g %}{{ i }}{{ loop.last }}{% break %}{% endfor %}{{ g|list }}",
    "{% set g = items|map('string') %}{{ '1' in g }}{{ g|list }}",
    "{% set g = items|map('nosuch') %}ok",
    "{% set g = [1,'a']|map('abs') %}{{ g|first }}",
    "{% if no %}{{ name|nosuch }}{% endif %}ok",
    "{{ (name|nosuch) if no else 'ok' }}",
    "{{ 'ok' if yes else name|nosuch }}",
    "{% if no %}{{ name is nosuch }}{% endif %}ok",
    "{% if yes %}{% if no %}{{ x|nosuch }}{% endif %}{% endif %}ok",
    "{% set x = 'a' if yes else 'b' %}{{ x }}",
    "{% set x = items if items else none %}{{ x }}",
    "{% for p in people %}{{ p.name }}{{ ', ' if not loop.last else '.' }}{% endfor %}",
    "{% for p in people %}{% if loop.first or p.age != loop.previtem.age %}{{ p.age }}: {% endif %}{{ p.name }} {% endfor %}",
    "{%- for k, v in d.items() -%}\n  {%- if v is mapping -%}\n    {{ k }}\n  {%- else -%}\n    {{ v }}\n  {%- endif -%}\n{%- endfor -%}",
    "{% for g in people|groupby('age') %}{{ g.grouper }}:{% for p in g.list %}{{ p.name }} {% endfor %};{% endfor %}",
    "{% for age, who in people|groupby('age') %}{{ age }}:{{ who|map(attribute='name')|join(',') }};{% endfor %}",
    "{% for row in items|batch(2) %}{{ row }}{% endfor %}",
    "{% for x in 'a,b'.split(',') %}{{ x }}{{ loop.last }}{% endfor %}",
    "{{ items[loop.index] if loop is defined else 'no loop' }}",
    "{% macro m(d) %}{% for k in d %}{{ k }}{% if d[k] is mapping %}({{ m(d[k]) }}){% endif %}{% endfor %}{% endmacro %}{{ m(d) }}",
    "{% macro t(spec) %}{%- if spec.type == 'a' -%}A{%- else -%}{{ spec.type|default('none') }}{%- endif -%}{% endmacro %}{{ t({'type':'a'}) }}{{ t({}) }}",
    "{% set s = 'a' %}{% set s = s ~ 'b' %}{% set s = s + 'c' %}{{ s }}",
    "{% if missing is defined and missing.x %}A{% else %}B{% endif %}",
    "{% if d.C is mapping and d.C.x|length > 2 %}A{% endif %}",
    "{% if not (d.q is defined and d.q) %}A{% endif %}",
    "{% if 'a' in d and d['a'] == 2 %}A{% endif %}",
    "{% if items is sequence and items is not string %}A{% endif %}",
    "{% if name is string %}A{% elif name is iterable %}B{% endif %}",
    "line one\n{% if yes %}\nline two\n{% endif %}\nline three\n",
    "\n\n{% if yes %}x{% endif %}\n\n",
    "{% if yes %}\n\nx{% endif %}",
    "{{ name }}   \n   {% if yes %}   \n   x{% endif %}",
    "{{ '\n' }}{{- 'x' }}",
    " \n {%- set x = 1 %} \n {{ x }}",
    "\u2028{%- if yes %}a{% endif %}",
    "é{{ 'ü' }}漢{# ñ #}字",
]

# Templates that jinja2 refuses, at compile time or when run.
FAILING = r"""
{{
{{ name
{{ name }
{{ }}
{% %}
{% if %}A{% endif %}
{% if yes %}A
{% endif %}
{% else %}
{% for i in items %}
{% for in items %}{% endfor %}
{% for i items %}{% endfor %}
{% for i in items %}{% endif %}
{% nosuch %}
{% do x %}
{% if yes %}{% for i in items %}{% endif %}{% endfor %}
{# open
{% raw %}open
{{ 'open }}
{{ "open }}
{{ 1 + }}
{{ * 1 }}
{{ a b }}
{{ a. }}
{{ a.'x' }}
{{ (1 }}
{{ [1 }}
{{ {1} }}
{{ {1:} }}
{{ 1) }}
{{ ] }}
{{ (1] }}
{{ a ! b }}
{{ a @ b }}
{{ a ? b }}
{{ a is }}
{{ a is 5 }}
{{ 1 is eq 1 is eq 1 }}
{{ a| }}
{{ a|5 }}
{{ a|nosuch }}
{{ a is nosuch }}
{% for i in items %}{{ i|nosuch }}{% endfor %}
{% if yes %}{% for i in items %}{{ i|nosuch }}{% endfor %}{% endif %}
{% if yes %}{{ name|nosuch }}{% endif %}
{{ f(a=1, 2) }}
{{ f(**a, *b) }}
{{ f(a=1, a=2) }}
{% set 1 = 2 %}
{% set true = 2 %}
{% set x.y.z = 2 %}
{% set x[0] = 2 %}
{% set %}
{% set x = %}
{% set x %}open
{% macro %}{% endmacro %}
{% macro m %}{% endmacro %}
{% macro m(a=1, b) %}{% endmacro %}
{% macro m(1) %}{% endmacro %}
{% macro m(a, a) %}{% endmacro %}
{% call x %}{% endcall %}
{% filter %}{% endfilter %}
{% filter nosuch %}{% endfilter %}
{% break %}
{% continue %}
{% for i in items %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for i in items %}{% generation %}{% break %}{% endgeneration %}{% endfor %}
{% for loop in items %}{% endfor %}
{% for i in items %}{% set loop = 1 %}{% endfor %}
{% with a %}{% endwith %}
{{ '\x4' }}
{{ '\u12' }}
{{ 1__0 }}
{{ 012 }}
{{ 1 if }}
{{ not }}
{{ a not b }}
{% elif x %}
{{ missing.x }}
{{ missing['x'] }}
{{ missing() }}
{{ missing + 1 }}
{{ 1 + missing }}
{{ -missing }}
{{ missing < 1 }}
{{ missing[1:] }}
{{ missing|upper|abs }}
{{ missing|int }}
{{ missing|tojson }}
{{ missing|round }}
{{ d.nope.x }}
{{ d.nope() }}
{{ items.append(1) }}
{{ d.update({}) }}
{{ d.pop('a') }}
{{ d.clear() }}
{{ d.setdefault('a', 1) }}
{{ items.sort() }}
{{ ''.__class__.__mro__ }}
{{ ''.__class__() }}
{{ d.__class__.x }}
{{ name.upper.__self__.x.y }}
{{ 1 + 'a' }}
{{ 'a' + 1 }}
{{ 'a' - 'b' }}
{{ [1] + (2,) }}
{{ [] + 'a' }}
{{ none + 1 }}
{{ 'a' * 'b' }}
{{ 'a' * 1.5 }}
{{ {} + {} }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 1.0 / 0 }}
{{ 0 ** -1 }}
{{ 10.0 ** 400 }}
{{ 1 < 'a' }}
{{ [1] < 1 }}
{{ none < none }}
{{ {} < {} }}
{{ 1 in 5 }}
{{ 1 in 'abc' }}
{{ none in 'abc' }}
{{ 1 in none }}
{{ [] in {} }}
{{ {[]: 1} }}
{{ {{}: 1} }}
{{ -'a' }}
{{ +[] }}
{{ name() }}
{{ 5() }}
{{ none() }}
{{ items[1:2:0] }}
{{ items['a':] }}
{{ n[1:] }}
{{ nothing[1:] }}
{{ d[1:] }}
{% for i in 5 %}{% endfor %}
{% for i in none %}{% endfor %}
{% for i in yes %}{% endfor %}
{% for a, b in items %}{% endfor %}
{% for a, b in ['abc'] %}{% endfor %}
{% for a, b in [[1]] %}{% endfor %}
{% set a, b = 1 %}
{% set a, b = [1, 2, 3] %}
{% set x = 1 %}{% set x.y = 2 %}
{% set nope.y = 2 %}
{% set d.y = 2 %}
{% set ns = namespace(_x=1) %}
{% set ns = namespace() %}{% set ns._x = 1 %}
{{ namespace(1) }}
{{ dict(1) }}
{{ dict([1]) }}
{{ dict({}, {}) }}
{{ range() }}
{{ range('a') }}
{{ range(1.5) }}
{{ range(1, 2, 0) }}
{{ range(1, 2, 3, 4) }}
{{ range(200000) }}
{{ raise_exception('boom') }}
{{ raise_exception() }}
{% if yes %}{{ raise_exception('in if') }}{% endif %}
{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{% endmacro %}{{ m(b=1) }}
{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}
{% macro m() %}{% endmacro %}{% call m() %}x{% endcall %}
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}
{{ items|first(1) }}
{{ name|upper(1) }}
{{ name|replace('a') }}
{{ name|replace() }}
{{ name|default(x=1) }}
{{ name|trim(1) }}
{{ items|sort(nope=1) }}
{{ [1, 'a']|sort }}
{{ [none, 1]|sort }}
{{ [{}, {}]|sort }}
{{ [1, 'a']|max }}
{{ items|join(attribute='a.b') }}
{{ 5|join }}
{{ 5|length }}
{{ none|length }}
{{ (items|map('string'))|length }}
{{ (items|map('string'))|last }}
{{ (items|map('string'))[0].x }}
{{ items|map|list }}
{{ items|map('nosuch')|list }}
{{ items|map(attribute='a', nope=1)|list }}
{{ items|select('nosuch')|list }}
{{ items|selectattr|list }}
{{ items|map('upper', 1)|list }}
{{ ['a']|sum }}
{{ items|sum(start='') }}
{{ 5|first }}
{{ 5|list }}
{{ none|list }}
{{ 5|reverse }}
{{ 5|items|list }}
{{ items|items|list }}
{{ items|dictsort }}
{{ d|dictsort(by='nope') }}
{{ d|dictsort(by='value') }}
{{ [[1]]|unique|list }}
{{ items|slice(0)|list }}
{{ 5|indent }}
{{ 'abc'|truncate(2) }}
{{ 5|truncate }}
{{ 'a'|round }}
{{ 1|round(1, 'nope') }}
{{ 'a'|abs }}
{{ none|abs }}
{{ 'inf'|float|int }}
{{ '%d' % 'a' }}
{{ '%d' % none }}
{{ '%x' % 1.5 }}
{{ '%s %s' % 'a' }}
{{ '%s' % ('a', 'b') }}
{{ 'a' % 'b' }}
{{ '%(a)s' % 'b' }}
{{ '%(a)s' % {} }}
{{ '%z' % 1 }}
{{ '%' % 1 }}
{{ '%s'|format }}
{{ '%s'|format(1, a=2) }}
{{ '{}'.format() }}
{{ '{1}'.format(1) }}
{{ '{a}'.format(b=1) }}
{{ '{'.format() }}
{{ '}'.format() }}
{{ '{} {0}'.format(1) }}
{{ '{:d}'.format('a') }}
{{ '{:s}'.format(1) }}
{{ '{:q}'.format(1) }}
{{ '{!z}'.format(1) }}
{{ '{.x.y}'.format({}) }}
{{ 'a'.split('') }}
{{ 'a'.split(1) }}
{{ 'a'.join([1]) }}
{{ 'a'.join(5) }}
{{ 'a'.index('b') }}
{{ 'a'.find(1) }}
{{ 'a'.startswith(1) }}
{{ 'a'.startswith(['a']) }}
{{ 'a'.center('x') }}
{{ 'a'.center(5, 'xx') }}
{{ 'a'.upper(1) }}
{{ 'a'.replace('a') }}
{{ 'a'.nosuch() }}
{{ [1].index(2) }}
{{ d.get() }}
{{ d.get([]) }}
{{ {1: []}|tojson(sort_keys='x') and ({'a': 1, 2: 3}|tojson(sort_keys=true)) }}
{{ {(1, 2): 3}|tojson }}
{{ namespace()|tojson }}
{{ range|tojson }}
{{ d.items()|tojson }}
{% for i in items %}{{ loop(items) }}{% endfor %}
{% for i in items %}{{ loop.cycle() }}{% endfor %}
{{ f(*5) }}
{{ range(*5) }}
{{ range(**5) }}
{{ range(**{1: 2}) }}
{{ dict(**{'a': 1}, a=2) }}
{{ strftime_now() }}
{{ strftime_now(5) }}
{{ items is divisibleby 2 }}
{{ n is divisibleby 0 }}
{{ n is divisibleby }}
{{ name is odd }}
{{ 5 is in 5 }}
{{ n is eq }}
{{ n is none if yes }}
{{ name|attr(5) }}
{{ missing|attr('x').y }}
"""


def cases() -> list[str]:
    """Every snippet's source; printed expressions are between two newlines."""
    printed, current = [], ""
    for line in PRINT.strip("\n").split("\n"):
        current = f"{current}\n{line}" if current else line
        if current.count("'multi") == 1 and not current.endswith("line'"):
            continue
        printed.append("{{ " + current + " }}")
        current = ""
    failing = [line for line in FAILING.strip("\n").split("\n") if line]
    return printed + STATEMENTS + failing
