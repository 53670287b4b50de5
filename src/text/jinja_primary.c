/* The leaves of the grammar (names, literals, brackets), targets of assignments, and what all of
 * the parser stands on: nodes, node lists, numbered names, errors. */
#include <stdio.h>
#include <string.h>

#include "text/jinja_ast.h"
#include "text/template.h"

enum { NAME_SLOTS_MIN = 128, NAMES_MAX = 4096 };

int(parse_fail)(struct parser *p, enum err_code code, int line, const char *fmt, ...)
{
    char message[ERR_MESSAGE_BYTES_MAX / 2];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    if (p->failed == 0) {
        p->failed = -(int)code;
        (void)err_set(p->err, code, "template line %d: %s", line, message);
    }
    return p->failed;
}

void *(parse_alloc)(struct parser *p, size_t n, size_t size)
{
    void *out = arena_alloc(p->arena, n, size);
    if (out == NULL) {
        (void)parse_fail(p, ERR_NOMEM, p->at->line, "out of memory for a template");
    }
    return out;
}

int parse_enter(struct parser *p)
{
    if (p->depth >= TEMPLATE_DEPTH_MAX) {
        return parse_fail(p, ERR_TOO_LARGE, p->at->line, "nested deeper than %d levels",
                          TEMPLATE_DEPTH_MAX);
    }
    p->depth++;
    return 0;
}

int parse_new(struct parser *p, enum node_kind kind, int line, struct node **out)
{
    *out = parse_alloc(p, 1, sizeof **out);
    if (*out == NULL) {
        return -(int)ERR_NOMEM;
    }
    (*out)->kind = kind;
    (*out)->line = line;
    return 0;
}

int nodes_add(struct parser *p, struct nodes *nodes, struct node *node)
{
    if (nodes->n == nodes->cap) {
        uint32_t cap = nodes->cap == 0 ? 4 : 2 * nodes->cap;
        struct node **at = parse_alloc(p, cap, sizeof *at);
        if (at == NULL) {
            return p->failed;
        }
        if (nodes->n > 0) {
            memcpy(at, nodes->at, nodes->n * sizeof *at);
        }
        nodes->at = at;
        nodes->cap = cap;
    }
    nodes->at[nodes->n++] = node;
    return 0;
}

/* Records that `node` has `child` (may be NULL) below it. */
int parse_adopt(struct parser *p, struct node *node, const struct node *child)
{
    if (child != NULL && child->height + 1 > node->height) {
        node->height = child->height + 1;
        if (node->height > TEMPLATE_DEPTH_MAX) {
            return parse_fail(p, ERR_TOO_LARGE, node->line, "expression nested too deeply");
        }
    }
    return 0;
}

int parse_adopt_all(struct parser *p, struct node *node, const struct nodes *children)
{
    int rc = 0;
    for (uint32_t i = 0; i < children->n && rc == 0; i++) {
        rc = parse_adopt(p, node, children->at[i]);
    }
    return rc;
}

bool token_is_name(const struct token *token, const char *name)
{
    return token->kind == T_NAME && strcmp(token->text, name) == 0;
}

bool parse_skip_name(struct parser *p, const char *name)
{
    bool there = token_is_name(p->at, name);
    p->at += there;
    return there;
}

bool parse_skip(struct parser *p, enum token_kind kind)
{
    bool there = p->at->kind == kind;
    p->at += there;
    return there;
}

int parse_expect(struct parser *p, enum token_kind kind)
{
    if (p->at->kind == kind) {
        p->at += kind != T_EOF;
        return 0;
    }
    if (p->at->kind == T_EOF) {
        return parse_fail(p, ERR_INVALID, p->at->line, "unexpected end of template");
    }
    struct token wanted = {.kind = kind, .text = "name"};
    return parse_fail(p, ERR_INVALID, p->at->line, "expected token '%s', got '%s'",
                      token_name(&wanted), token_name(p->at));
}

/* --- numbered names ------------------------------------------------------------------------ */
static int rehash(struct parser *p, struct symbol_table *names)
{
    uint32_t n_slots = names->n_slots == 0 ? NAME_SLOTS_MIN : 2 * names->n_slots;
    uint32_t *slots = parse_alloc(p, n_slots, sizeof *slots);
    const char **text = parse_alloc(p, n_slots / 2, sizeof *text);
    if (slots == NULL || text == NULL) {
        return p->failed;
    }
    for (uint32_t i = 0; i < names->n; i++) {
        uint64_t hash = jv_hash_text(names->text[i], strlen(names->text[i]));
        uint32_t at = (uint32_t)hash & (n_slots - 1);
        while (slots[at] != 0) {
            at = (at + 1) & (n_slots - 1);
        }
        slots[at] = i + 1;
        text[i] = names->text[i];
    }
    names->slots = slots;
    names->text = text;
    names->n_slots = n_slots;
    names->cap = n_slots / 2;
    return 0;
}

uint32_t symbol_of(struct parser *p, const char *text)
{
    struct symbol_table *names = p->names;
    if (names->n == names->cap && rehash(p, names) != 0) {
        return UINT32_MAX;
    }
    uint32_t mask = names->n_slots - 1;
    uint32_t at = (uint32_t)jv_hash_text(text, strlen(text)) & mask;
    while (names->slots[at] != 0) {
        if (strcmp(names->text[names->slots[at] - 1], text) == 0) {
            return names->slots[at] - 1;
        }
        at = (at + 1) & mask;
    }
    if (names->n == NAMES_MAX) {
        (void)parse_fail(p, ERR_TOO_LARGE, p->at->line, "more than %d names", NAMES_MAX);
        return UINT32_MAX;
    }
    names->text[names->n] = text;
    names->slots[at] = ++names->n;
    return names->n - 1;
}

/* Tells the macros around that their bodies read one of the special names. */
static void note_special(struct parser *p, const char *name)
{
    for (struct enclosing *e = p->macros; e != NULL; e = e->outer) {
        e->macro->wants_caller |= strcmp(name, "caller") == 0;
        e->macro->wants_kwargs |= strcmp(name, "kwargs") == 0;
        e->macro->wants_varargs |= strcmp(name, "varargs") == 0;
    }
}

/* --- leaves -------------------------------------------------------------------------------- */
static int parse_constant(struct parser *p, struct jvalue value, int line, struct node **out)
{
    int rc = parse_new(p, N_CONST, line, out);
    if (rc == 0) {
        (*out)->as.constant = value;
    }
    return rc;
}

static int parse_name(struct parser *p, bool with_namespace, struct node **out)
{
    const struct token *token = p->at++;
    if (strcmp(token->text, "true") == 0 || strcmp(token->text, "True") == 0) {
        return parse_constant(p, jv_bool(true), token->line, out);
    }
    if (strcmp(token->text, "false") == 0 || strcmp(token->text, "False") == 0) {
        return parse_constant(p, jv_bool(false), token->line, out);
    }
    if (strcmp(token->text, "none") == 0 || strcmp(token->text, "None") == 0) {
        return parse_constant(p, jv_none(), token->line, out);
    }
    bool reference = with_namespace && parse_skip(p, T_DOT);
    int rc = parse_new(p, reference ? N_NAMESPACE_REF : N_NAME, token->line, out);
    if (rc != 0) {
        return rc;
    }
    (*out)->as.name.text = token->text;
    (*out)->as.name.symbol = symbol_of(p, token->text);
    if ((*out)->as.name.symbol == UINT32_MAX) {
        return p->failed;
    }
    note_special(p, token->text);
    if (reference) {
        (*out)->as.name.attribute = p->at->text;
        return parse_expect(p, T_NAME);
    }
    return 0;
}

/* Neighbouring string literals are one. */
static int parse_string(struct parser *p, struct node **out)
{
    const struct token *first = p->at++;
    size_t length = first->len;
    if (p->at->kind != T_STRING) {
        return parse_constant(p, jv_string(first->text, length), first->line, out);
    }
    while (p->at->kind == T_STRING) {
        length += (p->at++)->len;
    }
    char *text = parse_alloc(p, length + 1, 1);
    if (text == NULL) {
        return p->failed;
    }
    size_t n = 0;
    for (const struct token *t = first; t < p->at; t++) {
        memcpy(text + n, t->text, t->len);
        n += t->len;
    }
    return parse_constant(p, jv_string(text, length), first->line, out);
}

static int parse_list(struct parser *p, struct node **out)
{
    int rc = parse_new(p, N_LIST, p->at->line, out);
    p->at++;
    while (rc == 0 && p->at->kind != T_RBRACKET) {
        struct node *item = NULL;
        if ((*out)->as.items.n > 0) {
            rc = parse_expect(p, T_COMMA);
            if (rc != 0 || p->at->kind == T_RBRACKET) {
                break;
            }
        }
        rc = parse_expression(p, true, &item);
        if (rc == 0) {
            rc = nodes_add(p, &(*out)->as.items, item);
        }
    }
    if (rc == 0) {
        rc = parse_expect(p, T_RBRACKET);
    }
    return rc == 0 ? parse_adopt_all(p, *out, &(*out)->as.items) : rc;
}

static int parse_dict(struct parser *p, struct node **out)
{
    int rc = parse_new(p, N_DICT, p->at->line, out);
    p->at++;
    while (rc == 0 && p->at->kind != T_RBRACE) {
        struct node *key = NULL;
        struct node *value = NULL;
        if ((*out)->as.dict.keys.n > 0) {
            rc = parse_expect(p, T_COMMA);
            if (rc != 0 || p->at->kind == T_RBRACE) {
                break;
            }
        }
        rc = parse_expression(p, true, &key);
        if (rc == 0) {
            rc = parse_expect(p, T_COLON);
        }
        if (rc == 0) {
            rc = parse_expression(p, true, &value);
        }
        if (rc == 0) {
            rc = nodes_add(p, &(*out)->as.dict.keys, key);
        }
        if (rc == 0) {
            rc = nodes_add(p, &(*out)->as.dict.values, value);
        }
    }
    if (rc == 0) {
        rc = parse_expect(p, T_RBRACE);
    }
    if (rc == 0) {
        rc = parse_adopt_all(p, *out, &(*out)->as.dict.keys);
    }
    return rc == 0 ? parse_adopt_all(p, *out, &(*out)->as.dict.values) : rc;
}

static bool ends_tuple(const struct parser *p)
{
    return p->at->kind == T_VARIABLE_END || p->at->kind == T_BLOCK_END || p->at->kind == T_RPAREN;
}

/* How the items of a tuple are read. */
struct tuple_rule {
    bool targets, with_namespace; /* only names, for assignments */
    bool with_condition;
    bool parentheses; /* around it, so it may be empty */
};

static int parse_items(struct parser *p, const struct tuple_rule *rule, struct node **out)
{
    struct nodes items = {0};
    int line = p->at->line;
    bool is_tuple = false;
    int rc = 0;
    while (rc == 0) {
        struct node *item = NULL;
        if (items.n > 0) {
            rc = parse_expect(p, T_COMMA);
        }
        if (rc != 0 || ends_tuple(p)) {
            break;
        }
        rc = rule->targets ? parse_primary(p, rule->with_namespace, &item)
                           : parse_expression(p, rule->with_condition, &item);
        if (rc == 0) {
            rc = nodes_add(p, &items, item);
        }
        if (p->at->kind != T_COMMA) {
            break;
        }
        is_tuple = true;
    }
    if (rc != 0) {
        return rc;
    }
    if (!is_tuple && items.n > 0) {
        *out = items.at[0];
        return 0;
    }
    if (!is_tuple && !rule->parentheses) {
        return parse_fail(p, ERR_INVALID, p->at->line, "Expected an expression, got '%s'",
                          token_name(p->at));
    }
    rc = parse_new(p, N_TUPLE, line, out);
    if (rc == 0) {
        (*out)->as.items = items;
        rc = parse_adopt_all(p, *out, &items);
    }
    return rc;
}

int parse_tuple(struct parser *p, bool with_condition, struct node **out)
{
    return parse_items(p, &(struct tuple_rule){.with_condition = with_condition}, out);
}

int parse_primary(struct parser *p, bool with_namespace, struct node **out)
{
    const struct token *token = p->at;
    int rc;
    switch (token->kind) {
    case T_NAME:
        return parse_name(p, with_namespace, out);
    case T_STRING:
        return parse_string(p, out);
    case T_INTEGER:
        p->at++;
        return parse_constant(p, jv_int(token->number.integer), token->line, out);
    case T_FLOAT:
        p->at++;
        return parse_constant(p, jv_float(token->number.real), token->line, out);
    case T_LPAREN:
        p->at++;
        rc = parse_items(p, &(struct tuple_rule){.with_condition = true, .parentheses = true}, out);
        return rc == 0 ? parse_expect(p, T_RPAREN) : rc;
    case T_LBRACKET:
        return parse_list(p, out);
    case T_LBRACE:
        return parse_dict(p, out);
    case T_EOF:
        return parse_fail(p, ERR_INVALID, token->line, "unexpected end of template");
    default:
        return parse_fail(p, ERR_INVALID, token->line, "unexpected '%s'", token_name(token));
    }
}

static int check_target(struct parser *p, const struct node *node)
{
    if (node->kind == N_NAME) {
        if (p->loops_anywhere > 0 && strcmp(node->as.name.text, "loop") == 0) {
            return parse_fail(p, ERR_INVALID, node->line,
                              "Can't assign to special loop variable in for-loop target");
        }
        return 0;
    }
    if (node->kind == N_NAMESPACE_REF) {
        return 0;
    }
    if (node->kind != N_TUPLE) {
        return parse_fail(p, ERR_INVALID, node->line, "can't assign to this expression");
    }
    int rc = 0;
    for (uint32_t i = 0; i < node->as.items.n && rc == 0; i++) {
        rc = check_target(p, node->as.items.at[i]);
    }
    return rc;
}

int parse_target(struct parser *p, bool with_namespace, struct node **out)
{
    const struct tuple_rule rule = {.targets = true, .with_namespace = with_namespace};
    int rc = parse_items(p, &rule, out);
    return rc == 0 ? check_target(p, *out) : rc;
}
