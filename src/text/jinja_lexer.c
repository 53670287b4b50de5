/* Cuts template source into tokens exactly where jinja2 does with trim_blocks and lstrip_blocks.
 *
 * The text between tags is data. What happens to white space around a tag:
 *   {%-  {{-  {#-   all white space before it goes
 *   {%   {#         white space between the line's start and the tag goes, unless written {%+
 *   {{              nothing goes
 *   -%}  -}}  -#}   all white space after it goes
 *   %}   #}         one newline after it goes, unless written +%}
 * Inside a tag a closing mark counts only when brackets are balanced. Line ends are normalised to
 * \n beforehand and one at the very end of the source is dropped. Lines are counted as jinja2
 * counts them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_ast.h"
#include "text/jinja_unicode.h"
#include "text/template.h"

struct lexer {
    struct arena *arena;
    struct err *err;
    const char *source;
    size_t length, pos;
    int line;
    bool line_starting; /* the last match ended with a newline */
    size_t n_brackets;
    char brackets[TEMPLATE_DEPTH_MAX];
    struct tokens *out;
};

static int fail(struct lexer *l, enum err_code code, const char *what)
{
    return err_set(l->err, code, "template line %d: %s", l->line, what);
}

static int fail_memory(struct lexer *l)
{
    return err_set(l->err, ERR_NOMEM, "out of memory for a template");
}

static int add(struct lexer *l, struct token token)
{
    struct tokens *t = l->out;
    if (t->n == t->cap) {
        size_t cap = t->cap == 0 ? 64 : 2 * t->cap;
        struct token *more = arena_alloc(l->arena, cap, sizeof *more);
        if (more == NULL) {
            return fail_memory(l);
        }
        if (t->n > 0) {
            memcpy(more, t->at, t->n * sizeof *more);
        }
        t->at = more;
        t->cap = cap;
    }
    token.line = l->line;
    t->at[t->n++] = token;
    return 0;
}

static int add_kind(struct lexer *l, enum token_kind kind)
{
    return add(l, (struct token){.kind = kind});
}

/* Moves on to `pos`, counting lines. */
static void advance(struct lexer *l, size_t pos)
{
    for (size_t i = l->pos; i < pos; i++) {
        l->line += l->source[i] == '\n';
    }
    l->line_starting = pos > l->pos && l->source[pos - 1] == '\n';
    l->pos = pos;
}

static bool looking_at(const struct lexer *l, size_t pos, const char *text)
{
    size_t n = strlen(text);
    return l->length - pos >= n && memcmp(l->source + pos, text, n) == 0;
}

static size_t skip_space(const struct lexer *l, size_t pos)
{
    uint32_t point;
    while (pos < l->length) {
        size_t n = ju_decode(l->source + pos, l->length - pos, &point);
        if (!ju_is_space(point)) {
            break;
        }
        pos += n;
    }
    return pos;
}

/* End of a closing mark ("%}", "#}") at pos, with what it takes along; 0 when none is there. */
static size_t closing(const struct lexer *l, size_t pos, const char *mark, bool plus, bool trim)
{
    if (looking_at(l, pos, mark)) {
        pos += 2;
        return trim && pos < l->length && l->source[pos] == '\n' ? pos + 1 : pos;
    }
    if (pos < l->length && l->source[pos] == '-' && looking_at(l, pos + 1, mark)) {
        return skip_space(l, pos + 3);
    }
    if (plus && pos < l->length && l->source[pos] == '+' && looking_at(l, pos + 1, mark)) {
        return pos + 3;
    }
    return 0;
}

/* "{%" sign? space* word space* closing, as raw and endraw are written; 0 when not there. */
static size_t raw_tag(const struct lexer *l, size_t pos, const char *word, bool end)
{
    if (!looking_at(l, pos, "{%")) {
        return 0;
    }
    pos += 2;
    if (pos < l->length && (l->source[pos] == '-' || l->source[pos] == '+')) {
        pos++;
    }
    pos = skip_space(l, pos);
    if (!looking_at(l, pos, word)) {
        return 0;
    }
    pos = skip_space(l, pos + strlen(word));
    return closing(l, pos, "%}", end, end);
}

/* Emits source[l->pos, tag) as data, stripped as the tag with this sign asks for. */
static int emit_data(struct lexer *l, size_t tag, char sign, bool variable)
{
    const char *text = l->source + l->pos;
    size_t length = tag - l->pos;
    size_t begin;
    size_t end = length;
    if (sign == '-') {
        ju_strip(text, length, false, true, &begin, &end);
    } else if (sign != '+' && !variable) {
        size_t start = length;
        while (start > 0 && text[start - 1] != '\n') {
            start--;
        }
        if (start > 0 || l->line_starting) {
            ju_strip(text + start, length - start, false, true, &begin, &end);
            end = end == 0 ? start : length;
        }
    }
    if (end == 0) {
        return 0;
    }
    return add(l, (struct token){.kind = T_DATA, .text = text, .len = (uint32_t)end});
}

static int lex_raw(struct lexer *l)
{
    for (size_t at = l->pos; at < l->length; at++) {
        size_t end = raw_tag(l, at, "endraw", true);
        if (end == 0) {
            continue;
        }
        int rc = emit_data(l, at, l->source[at + 2], false);
        advance(l, end);
        return rc;
    }
    return fail(l, ERR_INVALID, "Missing end of raw directive");
}

static int lex_comment(struct lexer *l)
{
    for (size_t at = l->pos; at < l->length; at++) {
        size_t end = closing(l, at, "#}", true, true);
        if (end != 0) {
            advance(l, end);
            return 0;
        }
    }
    return fail(l, ERR_INVALID, "Missing end of comment tag");
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* End of digits with single underscores between them; pos when there is none. */
static size_t digits_end(const struct lexer *l, size_t pos)
{
    size_t end = pos;
    while (end < l->length) {
        size_t at = end > pos && l->source[end] == '_' ? end + 1 : end;
        if (at >= l->length || !is_digit(l->source[at])) {
            break;
        }
        end = at + 1;
    }
    return end;
}

/* End of a float literal at pos, or 0. */
static size_t float_end(const struct lexer *l, size_t pos)
{
    size_t end = digits_end(l, pos);
    if (end == pos || (pos > 0 && l->source[pos - 1] == '.')) {
        return 0;
    }
    bool is_float = false;
    if (end < l->length && l->source[end] == '.') {
        size_t fraction = digits_end(l, end + 1);
        if (fraction > end + 1) {
            is_float = true;
            end = fraction;
        }
    }
    if (end < l->length && (l->source[end] == 'e' || l->source[end] == 'E')) {
        size_t sign = end + 1;
        if (sign < l->length && (l->source[sign] == '+' || l->source[sign] == '-')) {
            sign++;
        }
        size_t exponent = digits_end(l, sign);
        if (exponent > sign) {
            return exponent;
        }
    }
    return is_float ? end : 0;
}

static int lex_float(struct lexer *l, size_t end)
{
    char digits[512];
    size_t n = 0;
    for (size_t i = l->pos; i < end; i++) {
        if (l->source[i] != '_') {
            if (n + 1 == sizeof digits) {
                return fail(l, ERR_UNSUPPORTED, "number literal too long");
            }
            digits[n++] = l->source[i];
        }
    }
    digits[n] = '\0';
    struct token token = {.kind = T_FLOAT, .number.real = strtod(digits, NULL)};
    int rc = add(l, token);
    advance(l, end);
    return rc;
}

static int digit_value(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

static int lex_integer(struct lexer *l)
{
    size_t at = l->pos;
    int base = 10;
    if (l->source[at] == '0' && at + 1 < l->length) {
        char mark = (char)(l->source[at + 1] | 0x20);
        int other = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
        size_t first = at + 2;
        if (other != 0 && first < l->length && l->source[first] == '_') {
            first++;
        }
        if (other != 0 && first < l->length && digit_value(l->source[first]) < other) {
            base = other;
            at = first;
        }
    }
    bool zeros = base == 10 && l->source[at] == '0';
    uint64_t value = 0;
    size_t end = at;
    while (end < l->length) {
        size_t d = end > at && l->source[end] == '_' ? end + 1 : end;
        if (d >= l->length || digit_value(l->source[d]) >= base || (zeros && l->source[d] != '0')) {
            break;
        }
        value = value * (uint64_t)base + (uint64_t)digit_value(l->source[d]);
        if (value > INT64_MAX) {
            return fail(l, ERR_UNSUPPORTED, "integers beyond 64 bits are not supported");
        }
        end = d + 1;
    }
    int rc = add(l, (struct token){.kind = T_INTEGER, .number.integer = (int64_t)value});
    advance(l, end);
    return rc;
}

static int lex_name(struct lexer *l)
{
    size_t end = l->pos;
    uint32_t point;
    while (end < l->length) {
        size_t n = ju_decode(l->source + end, l->length - end, &point);
        if (!ju_is_name(point)) {
            break;
        }
        end += n;
    }
    char *text = arena_strndup(l->arena, l->source + l->pos, end - l->pos);
    if (text == NULL) {
        return fail_memory(l);
    }
    (void)ju_decode(text, end - l->pos, &point);
    if (!ju_is_name_start(point)) {
        return fail(l, ERR_INVALID, "Invalid character in identifier");
    }
    int rc = add(l, (struct token){.kind = T_NAME, .text = text, .len = (uint32_t)(end - l->pos)});
    advance(l, end);
    return rc;
}

/* Reads `digits` hexadecimal digits at *at; returns the code point or UINT32_MAX. */
static uint32_t read_hex(const char *text, size_t length, size_t *at, int digits)
{
    uint32_t value = 0;
    for (int i = 0; i < digits; i++, (*at)++) {
        if (*at >= length || digit_value(text[*at]) >= 16) {
            return UINT32_MAX;
        }
        value = value * 16 + (uint32_t)digit_value(text[*at]);
    }
    return value;
}

/* A backslash before a character beyond ASCII: Python's decoder sees the escape that stands for
 * the character, so the backslash stays and the escape's name comes out as text. */
static void put_odd_escape(struct buf *out, const char *text, size_t length, size_t *at)
{
    uint32_t point;
    *at += ju_decode(text + *at, length - *at, &point);
    buf_printf(out,
               point < 0x100     ? "\\x%02x"
               : point < 0x10000 ? "\\u%04x"
                                 : "\\U%08x",
               (unsigned)point);
}

/* One escape; *at is behind the backslash. */
static int unescape_one(struct lexer *l, struct buf *out, const char *text, size_t length,
                        size_t *at)
{
    static const char from[] = "\\'\"abfnrtv";
    static const char to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = text[*at];
    const char *simple = c == '\0' ? NULL : strchr(from, c);
    if (simple != NULL) {
        buf_putc(out, to[simple - from]);
        (*at)++;
    } else if (c == '\n') {
        (*at)++;
    } else if (c >= '0' && c <= '7') {
        uint32_t value = 0;
        for (int i = 0; i < 3 && *at < length && text[*at] >= '0' && text[*at] <= '7'; i++) {
            value = value * 8 + (uint32_t)(text[(*at)++] - '0');
        }
        ju_put(out, value);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        (*at)++;
        uint32_t point = read_hex(text, length, at, c == 'x' ? 2 : c == 'u' ? 4 : 8);
        if (point > 0x10FFFF) {
            return fail(l, ERR_INVALID, "truncated or illegal escape in a string");
        }
        if (point >= 0xD800 && point < 0xE000) {
            return fail(l, ERR_UNSUPPORTED, "surrogates in a string are not supported");
        }
        ju_put(out, point);
    } else if (c == 'N') {
        return fail(l, ERR_UNSUPPORTED, "\\N{...} in a string is not supported");
    } else if ((unsigned char)c >= 0x80) {
        put_odd_escape(out, text, length, at);
    } else {
        buf_putc(out, '\\');
        buf_putc(out, c);
        (*at)++;
    }
    return 0;
}

static int lex_string(struct lexer *l)
{
    char quote = l->source[l->pos];
    size_t end = l->pos + 1;
    bool escapes = false;
    while (end < l->length && l->source[end] != quote) {
        escapes = escapes || l->source[end] == '\\';
        end += l->source[end] == '\\' ? 2 : 1;
    }
    if (end >= l->length) {
        return fail(l, ERR_INVALID,
                    quote == '"' ? "unexpected char '\"'" : "unexpected char \"'\"");
    }
    const char *text = l->source + l->pos + 1;
    size_t length = end - l->pos - 1;
    struct token token = {.kind = T_STRING, .text = text, .len = (uint32_t)length};
    int rc = 0;
    if (escapes) {
        struct buf plain;
        buf_init(&plain, TEMPLATE_SOURCE_BYTES_MAX);
        for (size_t at = 0; at < length && rc == 0;) {
            if (text[at] == '\\') {
                at++;
                rc = unescape_one(l, &plain, text, length, &at);
            } else {
                buf_putc(&plain, text[at++]);
            }
        }
        if (rc == 0) {
            rc = buf_check(&plain, "string literal", l->err);
        }
        char *copy = rc != 0 ? NULL : arena_alloc(l->arena, plain.len + 1, 1);
        if (copy != NULL && plain.len > 0) {
            memcpy(copy, plain.data, plain.len);
        }
        token.text = copy;
        token.len = (uint32_t)plain.len;
        buf_release(&plain);
        if (rc == 0 && copy == NULL) {
            rc = fail_memory(l);
        }
    }
    if (rc == 0) {
        rc = add(l, token);
    }
    advance(l, end + 1);
    return rc;
}

static const struct {
    char text[3];
    enum token_kind kind;
} operators[] = {
    {"//", T_FLOORDIV}, {"**", T_POW},   {"==", T_EQ},      {"!=", T_NE},      {">=", T_GTEQ},
    {"<=", T_LTEQ},     {"+", T_ADD},    {"-", T_SUB},      {"/", T_DIV},      {"*", T_MUL},
    {"%", T_MOD},       {"~", T_TILDE},  {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"(", T_LPAREN},
    {")", T_RPAREN},    {"{", T_LBRACE}, {"}", T_RBRACE},   {">", T_GT},       {"<", T_LT},
    {"=", T_ASSIGN},    {".", T_DOT},    {":", T_COLON},    {"|", T_PIPE},     {",", T_COMMA},
    {";", T_SEMICOLON},
};

static int track_brackets(struct lexer *l, char c)
{
    static const char open[] = "{([";
    static const char close[] = "})]";
    const char *opens = strchr(open, c);
    if (opens != NULL) {
        if (l->n_brackets == sizeof l->brackets) {
            return fail(l, ERR_TOO_LARGE, "brackets nested too deeply");
        }
        l->brackets[l->n_brackets++] = close[opens - open];
    } else if (strchr(close, c) != NULL) {
        char text[] = "unexpected 'x'";
        text[12] = c;
        if (l->n_brackets == 0 || l->brackets[--l->n_brackets] != c) {
            return fail(l, ERR_INVALID, text);
        }
    }
    return 0;
}

static int lex_operator(struct lexer *l)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (looking_at(l, l->pos, operators[i].text)) {
            int rc = track_brackets(l, operators[i].text[0]);
            if (rc == 0) {
                rc = add_kind(l, operators[i].kind);
            }
            advance(l, l->pos + strlen(operators[i].text));
            return rc;
        }
    }
    char text[] = "unexpected char 'x'";
    text[17] = l->source[l->pos];
    return fail(l, ERR_INVALID, (unsigned char)text[17] < 0x80 ? text : "unexpected character");
}

/* One token inside a tag, or white space. */
static int lex_inside(struct lexer *l)
{
    size_t space = skip_space(l, l->pos);
    if (space > l->pos) {
        advance(l, space);
        return 0;
    }
    char c = l->source[l->pos];
    uint32_t point;
    (void)ju_decode(l->source + l->pos, l->length - l->pos, &point);
    if (is_digit(c)) {
        size_t end = float_end(l, l->pos);
        return end != 0 ? lex_float(l, end) : lex_integer(l);
    }
    if (ju_is_name(point)) {
        return lex_name(l);
    }
    return c == '"' || c == '\'' ? lex_string(l) : lex_operator(l);
}

/* From behind "{%" or "{{" to behind its end. */
static int lex_tag(struct lexer *l, bool variable)
{
    l->n_brackets = 0;
    while (l->pos < l->length) {
        size_t end = l->n_brackets > 0 ? 0
                     : variable        ? closing(l, l->pos, "}}", false, false)
                                       : closing(l, l->pos, "%}", true, true);
        if (end != 0) {
            int rc = add_kind(l, variable ? T_VARIABLE_END : T_BLOCK_END);
            advance(l, end);
            return rc;
        }
        int rc = lex_inside(l);
        if (rc != 0) {
            return rc;
        }
    }
    return 0; /* the parser meets the end where it wants more */
}

/* Data up to the next tag, then the tag. */
static int lex_next(struct lexer *l)
{
    size_t tag = l->pos;
    while (tag < l->length &&
           !(l->source[tag] == '{' && tag + 1 < l->length &&
             strchr("{%#", l->source[tag + 1]) != NULL && l->source[tag + 1] != '\0')) {
        tag++;
    }
    if (tag == l->length) {
        int rc = emit_data(l, tag, '+', false);
        advance(l, tag);
        return rc;
    }
    char kind = l->source[tag + 1];
    char sign = tag + 2 < l->length ? l->source[tag + 2] : '\0';
    sign = sign == '-' || sign == '+' ? sign : '\0';
    int rc = emit_data(l, tag, sign, kind == '{');
    size_t raw = raw_tag(l, tag, "raw", false);
    advance(l, raw != 0 ? raw : tag + (sign == '\0' ? 2 : 3));
    if (rc != 0) {
        return rc;
    }
    if (raw != 0) {
        return lex_raw(l);
    }
    if (kind == '#') {
        return lex_comment(l);
    }
    rc = add_kind(l, kind == '{' ? T_VARIABLE_BEGIN : T_BLOCK_BEGIN);
    return rc != 0 ? rc : lex_tag(l, kind == '{');
}

int jinja_lex(struct arena *arena, const char *source, size_t length, struct tokens *out,
              struct err *err)
{
    char *text = arena_alloc(arena, length + 1, 1);
    struct lexer l = {.arena = arena, .err = err, .line = 1, .line_starting = true, .out = out};
    if (text == NULL) {
        return fail_memory(&l);
    }
    for (size_t i = 0; i < length; i++) {
        if (source[i] == '\r') {
            text[l.length++] = '\n';
            i += i + 1 < length && source[i + 1] == '\n';
        } else {
            text[l.length++] = source[i];
        }
    }
    if (l.length > 0 && text[l.length - 1] == '\n') {
        l.length--;
    }
    l.source = text;
    int rc = 0;
    while (rc == 0 && l.pos < l.length) {
        rc = lex_next(&l);
    }
    return rc != 0 ? rc : add_kind(&l, T_EOF);
}

const char *token_name(const struct token *token)
{
    static const char *const names[] = {
        [T_EOF] = "end of template",
        [T_DATA] = "template data / text",
        [T_VARIABLE_BEGIN] = "begin of print statement",
        [T_VARIABLE_END] = "end of print statement",
        [T_BLOCK_BEGIN] = "begin of statement block",
        [T_BLOCK_END] = "end of statement block",
        [T_STRING] = "string",
        [T_INTEGER] = "integer",
        [T_FLOAT] = "float",
    };
    if (token->kind == T_NAME) {
        return token->text;
    }
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (operators[i].kind == token->kind) {
            return operators[i].text;
        }
    }
    return names[token->kind];
}
