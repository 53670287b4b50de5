/* Translation of a pattern in Oniguruma's Ruby syntax to a PCRE2 pattern over letters.
 *
 * A recursive grammar is not needed: groups only matter for where (?i) ends, so the walk is flat
 * with a small stack. Every atom becomes a bracket of letters, so nothing that PCRE2 decides by
 * its own tables is left in the output.
 *
 * 1. The walk runs twice: collecting (output thrown away) to note non-ASCII literals, which need
 *    letters of their own, and for real once the alphabet stands.
 * 2. Where the two syntaxes differ in meaning, the construct is refused rather than guessed:
 *    intervals followed by + or ?, \b, back-references, nested brackets, options but i.
 * 3. Case is folded here, with the two characters outside ASCII that fold into it (U+017F to s,
 *    U+212A to k); PCRE2 never sees a caseless option.
 */
#include "text/pattern_translate.h"

#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"

enum { LONG_S = 0x17F, KELVIN = 0x212A };

struct letter_set {
    uint64_t bits[4];
};

struct translator {
    struct alphabet *collect;   /* pass one */
    const struct alphabet *abc; /* pass two; NULL in pass one */
    const char *text;
    size_t n;
    size_t at;
    struct buf *out;
    struct err *err;
    unsigned depth;
    bool caseless[PATTERN_DEPTH_MAX + 1];
    bool group_start;  /* nothing of this group or alternative seen yet */
    bool quantifiable; /* the last thing put out takes a quantifier */
};

static int refuse(struct translator *tr, size_t from, const char *what)
{
    size_t n = tr->n - from < 24 ? tr->n - from : 24;
    return err_set(tr->err, ERR_UNSUPPORTED, "pre-tokenizer pattern: %s at byte %zu: '%.*s'", what,
                   from, (int)n, tr->text + from);
}

static bool folding(const struct translator *tr)
{
    return tr->caseless[tr->depth];
}

/* --- sets of letters ---------------------------------------------------------------------------
 */
static void set_add(struct letter_set *set, unsigned letter)
{
    set->bits[letter / 64] |= UINT64_C(1) << (letter % 64);
}

static bool set_has(const struct letter_set *set, unsigned letter)
{
    return (set->bits[letter / 64] >> (letter % 64) & 1) != 0;
}

static void set_union(struct letter_set *set, const struct letter_set *other)
{
    for (int i = 0; i < 4; i++)
        set->bits[i] |= other->bits[i];
}

static void set_negate(const struct translator *tr, struct letter_set *set)
{
    unsigned n = tr->abc != NULL ? tr->abc->n_letters : 128;

    for (int i = 0; i < 4; i++)
        set->bits[i] = ~set->bits[i];
    for (unsigned letter = n; letter < 256; letter++)
        set->bits[letter / 64] &= ~(UINT64_C(1) << (letter % 64));
}

static int note_literal(struct translator *tr, uint32_t first, uint32_t last)
{
    struct alphabet *abc = tr->collect;

    for (unsigned i = 0; i < abc->n_literals; i++) {
        if (abc->literals[i][0] == first && abc->literals[i][1] == last)
            return 0;
    }
    if (abc->n_literals == PATTERN_LITERALS_MAX)
        return err_set(
            tr->err, ERR_UNSUPPORTED,
            "pre-tokenizer patterns hold more than %d different characters outside ASCII",
            PATTERN_LITERALS_MAX);
    abc->literals[abc->n_literals][0] = first;
    abc->literals[abc->n_literals][1] = last;
    abc->n_literals++;
    return 0;
}

/* The part of a range that lies outside ASCII. */
static int add_wide(struct translator *tr, struct letter_set *set, uint32_t first, uint32_t last)
{
    if (tr->abc == NULL)
        return note_literal(tr, first, last);
    for (unsigned i = 0; i < tr->abc->n_literals; i++) {
        if (tr->abc->literals[i][0] != first || tr->abc->literals[i][1] != last)
            continue;
        for (unsigned letter = 128; letter < tr->abc->n_letters; letter++) {
            if ((tr->abc->literal_of[letter] >> i & 1) != 0)
                set_add(set, letter);
        }
    }
    return 0;
}

static int add_range(struct translator *tr, struct letter_set *set, uint32_t first, uint32_t last)
{
    int rc = 0;

    for (uint32_t c = first; c <= last && c < 128; c++) {
        bool is_letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        set_add(set, c);
        if (!folding(tr) || !is_letter)
            continue;
        set_add(set, c ^ 0x20);
        if ((c | 0x20) == 's')
            rc = add_wide(tr, set, LONG_S, LONG_S);
        if ((c | 0x20) == 'k' && rc == 0)
            rc = add_wide(tr, set, KELVIN, KELVIN);
        if (rc != 0)
            return rc;
    }
    if (last < 128)
        return 0;
    if (folding(tr))
        return refuse(tr, tr->at, "characters outside ASCII under (?i)");
    return add_wide(tr, set, first < 128 ? 128 : first, last);
}

/* Letters whose class word has one of `categories` (a bit each) or one of `flags`. */
static void add_classes(const struct translator *tr, struct letter_set *set, uint32_t categories,
                        uint16_t flags)
{
    if (tr->abc == NULL)
        return;
    for (unsigned letter = 0; letter < tr->abc->n_letters; letter++) {
        uint16_t word = tr->abc->class_of[letter];
        if ((categories >> (word & UNICODE_CATEGORY_MASK) & 1) != 0 || (word & flags) != 0)
            set_add(set, letter);
    }
}

static void put_set(struct translator *tr, const struct letter_set *set)
{
    bool empty = true;

    buf_putc(tr->out, '[');
    for (unsigned first = 0; first < 256; first++) {
        if (!set_has(set, first))
            continue;
        unsigned last = first;
        while (last < 255 && set_has(set, last + 1))
            last++;
        buf_printf(tr->out, "\\x%02x", first);
        if (last > first)
            buf_printf(tr->out, "-\\x%02x", last);
        empty = false;
        first = last;
    }
    buf_puts(tr->out, empty ? "^\\x00-\\xff]" : "]");
}

/* --- escapes -----------------------------------------------------------------------------------
 */
static const struct {
    const char *name;
    uint32_t categories;
} properties[] = {
#define BIT(category) (UINT32_C(1) << UNICODE_##category)
    {"L", BIT(LU) | BIT(LL) | BIT(LT) | BIT(LM) | BIT(LO)},
    {"M", BIT(MN) | BIT(MC) | BIT(ME)},
    {"N", BIT(ND) | BIT(NL) | BIT(NO)},
    {"P", BIT(PC) | BIT(PD) | BIT(PS) | BIT(PE) | BIT(PI) | BIT(PF) | BIT(PO)},
    {"S", BIT(SM) | BIT(SC) | BIT(SK) | BIT(SO)},
    {"Z", BIT(ZS) | BIT(ZL) | BIT(ZP)},
    {"C", BIT(CC) | BIT(CF) | BIT(CO) | BIT(CS) | BIT(CN)},
    {"Lu", BIT(LU)},
    {"Ll", BIT(LL)},
    {"Lt", BIT(LT)},
    {"Lm", BIT(LM)},
    {"Lo", BIT(LO)},
    {"Mn", BIT(MN)},
    {"Mc", BIT(MC)},
    {"Me", BIT(ME)},
    {"Nd", BIT(ND)},
    {"Nl", BIT(NL)},
    {"No", BIT(NO)},
    {"Pc", BIT(PC)},
    {"Pd", BIT(PD)},
    {"Ps", BIT(PS)},
    {"Pe", BIT(PE)},
    {"Pi", BIT(PI)},
    {"Pf", BIT(PF)},
    {"Po", BIT(PO)},
    {"Sm", BIT(SM)},
    {"Sc", BIT(SC)},
    {"Sk", BIT(SK)},
    {"So", BIT(SO)},
    {"Zs", BIT(ZS)},
    {"Zl", BIT(ZL)},
    {"Zp", BIT(ZP)},
    {"Cc", BIT(CC)},
    {"Cf", BIT(CF)},
    {"Co", BIT(CO)},
    {"Cs", BIT(CS)},
    {"Cn", BIT(CN)},
#undef BIT
};

static const uint32_t cased =
    UINT32_C(1) << UNICODE_LU | UINT32_C(1) << UNICODE_LL | UINT32_C(1) << UNICODE_LT;

/* \p{…} and \P{…}, with tr->at behind the p. */
static int property(struct translator *tr, struct letter_set *set, bool negated)
{
    size_t from = tr->at - 2;
    const char *end;

    if (tr->at >= tr->n || tr->text[tr->at] != '{' ||
        (end = memchr(tr->text + tr->at, '}', tr->n - tr->at)) == NULL)
        return refuse(tr, from, "\\p without {name}");
    const char *name = tr->text + tr->at + 1;
    if (*name == '^') {
        negated = !negated;
        name++;
    }
    size_t length = (size_t)(end - name);
    tr->at = (size_t)(end - tr->text) + 1;
    for (size_t i = 0; i < sizeof(properties) / sizeof(properties[0]); i++) {
        if (strlen(properties[i].name) != length || memcmp(properties[i].name, name, length) != 0)
            continue;
        uint32_t some = properties[i].categories & cased;
        if (folding(tr) && some != 0 && some != cased)
            return refuse(tr, from, "a cased property under (?i)");
        struct letter_set members = {{0}};
        add_classes(tr, &members, properties[i].categories, 0);
        if (negated)
            set_negate(tr, &members);
        set_union(set, &members);
        return 0;
    }
    return refuse(tr, from, "unknown property");
}

/* \s \S \d \D \w \W. False when c is none of them. */
static bool shorthand(struct translator *tr, struct letter_set *set, char c)
{
    struct letter_set members = {{0}};
    char lower = (char)(c | 0x20);

    if (lower == 's')
        add_classes(tr, &members, 0, UNICODE_SPACE);
    else if (lower == 'd')
        add_classes(tr, &members, UINT32_C(1) << UNICODE_ND, 0);
    else if (lower == 'w')
        add_classes(tr, &members, 0, UNICODE_WORD);
    else
        return false;
    if (c != lower)
        set_negate(tr, &members);
    set_union(set, &members);
    return true;
}

static int hex_digits(struct translator *tr, size_t from, unsigned most, uint32_t *value)
{
    unsigned n = 0;

    *value = 0;
    for (; n < most && tr->at < tr->n; n++, tr->at++) {
        char c = tr->text[tr->at];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (unsigned)((c | 0x20) - 'a') + 10;
        else
            break;
        *value = *value * 16 + digit;
    }
    return n == 0 ? refuse(tr, from, "hexadecimal escape without digits") : 0;
}

/* An escape that stands for one character, with tr->at behind the letter c after the backslash. */
static int escaped_character(struct translator *tr, char c, uint32_t *code_point)
{
    static const char names[] = "ntrfvae";
    static const char values[] = "\n\t\r\f\v\a\033";
    size_t from = tr->at - 2;
    const char *simple = memchr(names, c, sizeof(names) - 1);
    int rc;

    if (simple != NULL) {
        *code_point = (uint32_t)values[simple - names];
        return 0;
    }
    if (c == 'x' && tr->at < tr->n && tr->text[tr->at] == '{') {
        tr->at++;
        rc = hex_digits(tr, from, 6, code_point);
        if (rc == 0 && (tr->at >= tr->n || tr->text[tr->at++] != '}'))
            rc = refuse(tr, from, "\\x{ without }");
    } else if (c == 'x') {
        rc = hex_digits(tr, from, 2, code_point);
        if (rc == 0 && *code_point > 127)
            rc = refuse(tr, from, "a raw byte");
    } else if (c == 'u') {
        rc = hex_digits(tr, from, 4, code_point);
    } else if (c > 0 && c < 127 && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') &&
               !(c >= '0' && c <= '9')) {
        *code_point = (unsigned char)c;
        return 0;
    } else {
        return refuse(tr, from, "escape");
    }
    if (rc == 0 && *code_point >= UNICODE_CODE_POINTS)
        rc = refuse(tr, from, "character beyond Unicode");
    return rc;
}

static int plain_character(struct translator *tr, uint32_t *code_point)
{
    size_t step = utf8_decode(tr->text + tr->at, tr->n - tr->at, code_point);

    if (step == 0)
        return err_set(tr->err, ERR_INVALID, "pre-tokenizer pattern is not UTF-8 at byte %zu",
                       tr->at);
    tr->at += step;
    return 0;
}

/* --- brackets ----------------------------------------------------------------------------------
 */
/* One member: a class (*is_class) put into set, or a character. */
static int member(struct translator *tr, struct letter_set *set, bool *is_class,
                  uint32_t *code_point)
{
    size_t from = tr->at;

    *is_class = false;
    if (tr->text[tr->at] == '[')
        return refuse(tr, from, "nested or named bracket");
    if (tr->text[tr->at] == '&' && tr->at + 1 < tr->n && tr->text[tr->at + 1] == '&')
        return refuse(tr, from, "intersection of brackets");
    if (tr->text[tr->at] != '\\')
        return plain_character(tr, code_point);
    if (tr->at + 1 >= tr->n)
        return refuse(tr, from, "backslash at the end");
    char c = tr->text[tr->at + 1];
    tr->at += 2;
    if (c == 'p' || c == 'P') {
        *is_class = true;
        return property(tr, set, c == 'P');
    }
    if (shorthand(tr, set, c)) {
        *is_class = true;
        return 0;
    }
    return escaped_character(tr, c, code_point);
}

static int bracket(struct translator *tr)
{
    struct letter_set set = {{0}};
    size_t from = tr->at++;
    bool negated = tr->at < tr->n && tr->text[tr->at] == '^';
    bool first_member = true;
    int rc;

    if (negated)
        tr->at++;
    for (;; first_member = false) {
        bool is_class;
        uint32_t first = 0;
        uint32_t last;
        if (tr->at >= tr->n)
            return refuse(tr, from, "bracket without an end");
        if (tr->text[tr->at] == ']') {
            if (first_member)
                return refuse(tr, from, "empty bracket");
            break;
        }
        rc = member(tr, &set, &is_class, &first);
        if (rc != 0)
            return rc;
        if (is_class)
            continue;
        last = first;
        if (tr->at + 1 < tr->n && tr->text[tr->at] == '-' && tr->text[tr->at + 1] != ']') {
            tr->at++;
            rc = member(tr, &set, &is_class, &last);
            if (rc == 0 && (is_class || last < first))
                rc = refuse(tr, from, "bad range in a bracket");
            if (rc != 0)
                return rc;
        }
        rc = add_range(tr, &set, first, last);
        if (rc != 0)
            return rc;
    }
    tr->at++;
    if (negated)
        set_negate(tr, &set);
    put_set(tr, &set);
    return 0;
}

/* --- groups, quantifiers, atoms ----------------------------------------------------------------
 */
static bool looking_at(const struct translator *tr, const char *what)
{
    size_t n = strlen(what);
    return tr->n - tr->at >= n && memcmp(tr->text + tr->at, what, n) == 0;
}

static int group_open(struct translator *tr)
{
    static const char *const kept[] = {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    size_t from = tr->at;

    if (looking_at(tr, "(?i)")) {
        if (!tr->group_start)
            return refuse(tr, from, "(?i) in the middle");
        tr->caseless[tr->depth] = true;
        tr->at += 4;
        return 0;
    }
    if (tr->depth == PATTERN_DEPTH_MAX)
        return refuse(tr, from, "groups nested too deep");
    bool caseless = folding(tr);
    if (looking_at(tr, "(?i:") || looking_at(tr, "(?-i:")) {
        caseless = tr->text[tr->at + 2] == 'i';
        tr->at += caseless ? 4 : 5;
        buf_puts(tr->out, "(?:");
    } else if (looking_at(tr, "(?")) {
        size_t i = 0;
        while (i < sizeof(kept) / sizeof(kept[0]) && !looking_at(tr, kept[i]))
            i++;
        if (i == sizeof(kept) / sizeof(kept[0]))
            return refuse(tr, from, "kind of group");
        tr->at += strlen(kept[i]);
        buf_puts(tr->out, kept[i]);
    } else {
        tr->at++;
        buf_puts(tr->out, "(?:");
    }
    tr->caseless[++tr->depth] = caseless;
    tr->group_start = true;
    tr->quantifiable = false;
    return 0;
}

/* {n}, {n,}, {,m}, {n,m}: 1 when it is one and was put out, 0 when the brace is a plain one. */
static int interval(struct translator *tr)
{
    size_t i = tr->at + 1;
    unsigned bound[2] = {0, 0};
    bool given[2] = {false, false};
    int part = 0;

    for (; i < tr->n && tr->text[i] != '}'; i++) {
        char c = tr->text[i];
        if (c == ',' && part == 0) {
            part = 1;
        } else if (c >= '0' && c <= '9' && bound[part] <= 1000) {
            bound[part] = bound[part] * 10 + (unsigned)(c - '0');
            given[part] = true;
        } else {
            return 0;
        }
    }
    if (i >= tr->n || (!given[0] && !given[1]))
        return 0;
    if (i + 1 < tr->n && (tr->text[i + 1] == '+' || tr->text[i + 1] == '?'))
        return refuse(tr, tr->at, "interval followed by + or ?");
    if (bound[0] > 1000 || bound[1] > 1000 || (given[1] && bound[1] < bound[0]))
        return refuse(tr, tr->at, "bad interval");
    buf_printf(tr->out, "{%u", bound[0]);
    if (part == 1)
        buf_putc(tr->out, ',');
    if (given[1])
        buf_printf(tr->out, "%u", bound[1]);
    buf_putc(tr->out, '}');
    tr->at = i + 1;
    return 1;
}

static int quantifier(struct translator *tr)
{
    if (!tr->quantifiable)
        return refuse(tr, tr->at, "quantifier with nothing before it");
    buf_putc(tr->out, tr->text[tr->at++]);
    if (tr->at < tr->n && (tr->text[tr->at] == '?' || tr->text[tr->at] == '+'))
        buf_putc(tr->out, tr->text[tr->at++]);
    tr->quantifiable = false;
    return 0;
}

/* One character, class or anchor. */
static int atom(struct translator *tr)
{
    struct letter_set set = {{0}};
    uint32_t code_point = 0;
    char c = tr->text[tr->at];
    bool is_class;
    int rc;

    tr->quantifiable = true;
    if (c == '[')
        return bracket(tr);
    if (c == '^' || c == '$') {
        tr->quantifiable = false;
        buf_putc(tr->out, c);
        tr->at++;
        return 0;
    }
    if (c == '\\' && tr->at + 1 < tr->n &&
        (tr->text[tr->at + 1] == 'A' || tr->text[tr->at + 1] == 'z')) {
        tr->quantifiable = false;
        buf_append(tr->out, tr->text + tr->at, 2);
        tr->at += 2;
        return 0;
    }
    if (c == '.') {
        tr->at++;
        set_add(&set, '\n');
        set_negate(tr, &set);
        put_set(tr, &set);
        return 0;
    }
    rc = member(tr, &set, &is_class, &code_point);
    if (rc == 0 && !is_class)
        rc = add_range(tr, &set, code_point, code_point);
    if (rc == 0)
        put_set(tr, &set);
    return rc;
}

static int walk(struct translator *tr)
{
    int rc = 0;

    tr->group_start = true;
    while (tr->at < tr->n && rc == 0) {
        char c = tr->text[tr->at];
        if (c == '(') {
            rc = group_open(tr);
            continue;
        }
        tr->group_start = false;
        if (c == ')') {
            if (tr->depth == 0)
                return refuse(tr, tr->at, "closing parenthesis without its opening one");
            tr->depth--;
            buf_putc(tr->out, c);
            tr->at++;
            tr->quantifiable = true;
        } else if (c == '|') {
            buf_putc(tr->out, c);
            tr->at++;
            tr->quantifiable = false;
        } else if (c == '*' || c == '+' || c == '?') {
            rc = quantifier(tr);
        } else if (c == '{' && tr->quantifiable && (rc = interval(tr)) != 0) {
            rc = rc > 0 ? 0 : rc;
            tr->quantifiable = false;
        } else {
            rc = atom(tr);
        }
    }
    if (rc == 0 && tr->depth > 0)
        rc = refuse(tr, tr->n, "group without an end");
    return rc;
}

int pattern_translate(struct alphabet *collect, const struct alphabet *alphabet, const char *text,
                      size_t n, struct buf *out, struct err *err)
{
    struct translator tr = {
        .collect = collect, .abc = alphabet, .text = text, .n = n, .out = out, .err = err};
    int rc = walk(&tr);

    if (rc == 0)
        rc = buf_check(out, "pre-tokenizer pattern", err);
    return rc;
}
