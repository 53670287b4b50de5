/* Parses what follows an operand: .name, [item], (call), |filter and `is test`. */
#include <string.h>

#include "text/jinja_ast.h"
#include "text/jinja_eval.h"

static int adopt_args(struct parser *p, struct node *node, const struct call_args *args)
{
    int rc = parse_adopt_all(p, node, &args->positional);
    for (uint32_t i = 0; i < args->n_keywords && rc == 0; i++) {
        rc = parse_adopt(p, node, args->keywords[i].value);
    }
    if (rc == 0) {
        rc = parse_adopt(p, node, args->star);
    }
    return rc == 0 ? parse_adopt(p, node, args->star_star) : rc;
}

/* --- calls --------------------------------------------------------------------------------- */
static int add_keyword(struct parser *p, struct call_args *args, uint32_t *cap)
{
    if (args->n_keywords == *cap) {
        uint32_t more = *cap == 0 ? 4 : 2 * *cap;
        struct keyword *keywords = parse_alloc(p, more, sizeof *keywords);
        if (keywords == NULL) {
            return p->failed;
        }
        if (*cap > 0) {
            memcpy(keywords, args->keywords, *cap * sizeof *keywords);
        }
        args->keywords = keywords;
        *cap = more;
    }
    struct keyword *keyword = &args->keywords[args->n_keywords];
    keyword->name = p->at->text;
    for (uint32_t i = 0; i < args->n_keywords; i++) {
        if (strcmp(args->keywords[i].name, keyword->name) == 0) {
            return parse_fail(p, ERR_INVALID, p->at->line, "keyword argument repeated: %s",
                              keyword->name);
        }
    }
    p->at += 2;
    args->n_keywords++;
    return parse_expression(p, true, &keyword->value);
}

static int parse_call_args(struct parser *p, struct call_args *args)
{
    static const char bad[] = "invalid syntax for function call expression";
    int line = p->at->line;
    uint32_t cap = 0;
    bool first = true;
    int rc = parse_expect(p, T_LPAREN);
    while (rc == 0 && p->at->kind != T_RPAREN) {
        if (!first) {
            rc = parse_expect(p, T_COMMA);
            if (rc != 0 || p->at->kind == T_RPAREN) {
                break;
            }
        }
        first = false;
        struct node *value = NULL;
        if (parse_skip(p, T_MUL)) {
            rc = args->star != NULL || args->star_star != NULL
                     ? parse_fail(p, ERR_INVALID, line, bad)
                     : parse_expression(p, true, &args->star);
        } else if (parse_skip(p, T_POW)) {
            rc = args->star_star != NULL ? parse_fail(p, ERR_INVALID, line, bad)
                                         : parse_expression(p, true, &args->star_star);
        } else if (p->at->kind == T_NAME && p->at[1].kind == T_ASSIGN) {
            rc = args->star_star != NULL ? parse_fail(p, ERR_INVALID, line, bad)
                                         : add_keyword(p, args, &cap);
        } else if (args->star != NULL || args->star_star != NULL || args->n_keywords > 0) {
            rc = parse_fail(p, ERR_INVALID, line, bad);
        } else {
            rc = parse_expression(p, true, &value);
            if (rc == 0) {
                rc = nodes_add(p, &args->positional, value);
            }
        }
    }
    return rc == 0 ? parse_expect(p, T_RPAREN) : rc;
}

int parse_call(struct parser *p, struct node **node)
{
    struct node *call;
    int rc = parse_new(p, N_CALL, p->at->line, &call);
    if (rc == 0) {
        call->as.call.object = *node;
        rc = parse_call_args(p, &call->as.call.args);
    }
    if (rc == 0) {
        rc = parse_adopt(p, call, *node);
    }
    if (rc == 0) {
        rc = adopt_args(p, call, &call->as.call.args);
    }
    *node = call;
    return rc;
}

/* name(.name)* of a filter or test. */
static int parse_dotted(struct parser *p, const char **name)
{
    *name = p->at->text;
    int rc = parse_expect(p, T_NAME);
    while (rc == 0 && parse_skip(p, T_DOT)) {
        const char *part = p->at->text;
        rc = parse_expect(p, T_NAME);
        if (rc == 0) {
            *name = arena_printf(p->arena, "%s.%s", *name, part);
            rc = *name == NULL ? parse_fail(p, ERR_NOMEM, p->at->line, "out of memory") : 0;
        }
    }
    return rc;
}

/* Finds the filter or test. An unknown one is an error, unless an `if` may skip it: then it fails
 * when it is run. Whether an inline `if` follows is not known yet, so the parser only notes it. */
static int resolve_apply(struct parser *p, struct node *node)
{
    const char *name = node->as.apply.name;
    node->as.apply.which =
        node->kind == N_FILTER ? (const void *)filter_find(name) : (const void *)test_find(name);
    if (node->as.apply.which == NULL && node->kind == N_FILTER && filter_is_unsupported(name)) {
        return parse_fail(p, ERR_UNSUPPORTED, node->line, "the filter '%s' is not supported", name);
    }
    if (node->as.apply.which == NULL && !p->soft && p->unknown == NULL) {
        p->unknown = node;
    }
    return 0;
}

/* One filter at p->at, behind its bar. */
int parse_filter(struct parser *p, struct node **node)
{
    struct node *filter;
    int rc = parse_new(p, N_FILTER, p->at->line, &filter);
    if (rc == 0) {
        filter->as.apply.object = *node;
        rc = parse_dotted(p, &filter->as.apply.name);
    }
    if (rc == 0 && p->at->kind == T_LPAREN) {
        rc = parse_call_args(p, &filter->as.apply.args);
    }
    if (rc == 0) {
        rc = resolve_apply(p, filter);
    }
    if (rc == 0) {
        rc = parse_adopt(p, filter, *node);
    }
    if (rc == 0) {
        rc = adopt_args(p, filter, &filter->as.apply.args);
    }
    *node = filter;
    return rc;
}

int parse_block_filter(struct parser *p, bool inline_first, struct node **out)
{
    *out = NULL;
    int rc = inline_first ? parse_filter(p, out) : 0;
    while (rc == 0 && parse_skip(p, T_PIPE)) {
        rc = parse_filter(p, out);
    }
    return rc;
}

/* Does p->at begin the one argument that a test may have without parentheses? */
static bool starts_bare_argument(const struct parser *p)
{
    switch (p->at->kind) {
    case T_NAME:
        return !token_is_name(p->at, "else") && !token_is_name(p->at, "or") &&
               !token_is_name(p->at, "and");
    case T_STRING:
    case T_INTEGER:
    case T_FLOAT:
    case T_LBRACKET:
    case T_LBRACE:
        return true;
    default:
        return false;
    }
}

/* `is [not] name [argument]`; p->at is behind `is`. */
int parse_test(struct parser *p, struct node **node)
{
    int line = p->at->line;
    bool negated = parse_skip_name(p, "not");
    struct node *test;
    int rc = parse_new(p, N_TEST, line, &test);
    if (rc == 0) {
        test->as.apply.object = *node;
        rc = parse_dotted(p, &test->as.apply.name);
    }
    if (rc == 0 && p->at->kind == T_LPAREN) {
        rc = parse_call_args(p, &test->as.apply.args);
    } else if (rc == 0 && starts_bare_argument(p)) {
        struct node *argument = NULL;
        rc = token_is_name(p->at, "is")
                 ? parse_fail(p, ERR_INVALID, line, "You cannot chain multiple tests with is")
                 : parse_primary(p, false, &argument);
        if (rc == 0) {
            rc = parse_postfix(p, &argument);
        }
        if (rc == 0) {
            rc = nodes_add(p, &test->as.apply.args.positional, argument);
        }
    }
    if (rc == 0) {
        rc = resolve_apply(p, test);
    }
    if (rc == 0) {
        rc = parse_adopt(p, test, *node);
    }
    if (rc == 0) {
        rc = adopt_args(p, test, &test->as.apply.args);
    }
    *node = test;
    if (rc == 0 && negated) {
        struct node * not ;
        rc = parse_new(p, N_NOT, line, &not );
        if (rc == 0) {
            not ->as.operand = test;
            rc = parse_adopt(p, not, test);
            *node = not ;
        }
    }
    return rc;
}

/* --- subscripts ---------------------------------------------------------------------------- */
static bool ends_slice_part(const struct parser *p)
{
    return p->at->kind == T_RBRACKET || p->at->kind == T_COMMA;
}

/* One subscript: *key, or a slice node whose object is still open. */
static int parse_subscribed(struct parser *p, struct node **key, struct node **slice)
{
    int line = p->at->line;
    struct node *start = NULL;
    int rc = p->at->kind == T_COLON ? 0 : parse_expression(p, true, &start);
    if (rc == 0 && p->at->kind != T_COLON) {
        *key = start;
        return 0;
    }
    p->at += rc == 0;
    if (rc == 0) {
        rc = parse_new(p, N_SLICE, line, slice);
    }
    if (rc != 0) {
        return rc;
    }
    (*slice)->as.slice.start = start;
    if (p->at->kind != T_COLON && !ends_slice_part(p)) {
        rc = parse_expression(p, true, &(*slice)->as.slice.stop);
    }
    if (rc == 0 && parse_skip(p, T_COLON) && !ends_slice_part(p)) {
        rc = parse_expression(p, true, &(*slice)->as.slice.step);
    }
    if (rc == 0) {
        rc = parse_adopt(p, *slice, start);
    }
    if (rc == 0) {
        rc = parse_adopt(p, *slice, (*slice)->as.slice.stop);
    }
    return rc == 0 ? parse_adopt(p, *slice, (*slice)->as.slice.step) : rc;
}

/* [a], [a:b:c] or [a, b]; p->at is behind the bracket. */
static int parse_brackets(struct parser *p, int line, struct node **node)
{
    struct nodes keys = {0};
    struct node *slice = NULL;
    int rc = 0;
    while (rc == 0 && p->at->kind != T_RBRACKET) {
        struct node *key = NULL;
        if (keys.n > 0 || slice != NULL) {
            rc = parse_expect(p, T_COMMA);
        }
        if (rc == 0 && slice != NULL) {
            rc = parse_fail(p, ERR_UNSUPPORTED, line, "a slice in a tuple is not supported");
        }
        if (rc == 0) {
            rc = parse_subscribed(p, &key, &slice);
        }
        if (rc == 0 && key != NULL) {
            rc = nodes_add(p, &keys, key);
        }
        if (rc == 0 && slice != NULL && keys.n > 0) {
            rc = parse_fail(p, ERR_UNSUPPORTED, line, "a slice in a tuple is not supported");
        }
    }
    if (rc == 0) {
        rc = parse_expect(p, T_RBRACKET);
    }
    struct node *object = *node;
    if (rc == 0 && slice != NULL) {
        slice->as.slice.object = object;
        *node = slice;
        return parse_adopt(p, slice, object);
    }
    struct node *item = NULL;
    struct node *key = keys.n == 1 ? keys.at[0] : NULL;
    if (rc == 0 && key == NULL) {
        rc = parse_new(p, N_TUPLE, line, &key);
        if (rc == 0) {
            key->as.items = keys;
            rc = parse_adopt_all(p, key, &keys);
        }
    }
    if (rc == 0) {
        rc = parse_new(p, N_ITEM, line, &item);
    }
    if (rc == 0) {
        item->as.item.object = object;
        item->as.item.key = key;
        *node = item;
        rc = parse_adopt(p, item, object);
    }
    return rc == 0 ? parse_adopt(p, item, key) : rc;
}

/* .name or .0; p->at is behind the dot. */
static int parse_dot(struct parser *p, int line, struct node **node)
{
    const struct token *token = p->at++;
    struct node *out;
    int rc;
    if (token->kind == T_NAME) {
        rc = parse_new(p, N_ATTRIBUTE, line, &out);
        if (rc == 0) {
            out->as.attribute.object = *node;
            out->as.attribute.name = token->text;
        }
    } else if (token->kind == T_INTEGER) {
        struct node *key;
        rc = parse_new(p, N_CONST, line, &key);
        if (rc == 0) {
            key->as.constant = jv_int(token->number.integer);
            rc = parse_new(p, N_ITEM, line, &out);
        }
        if (rc == 0) {
            out->as.item.object = *node;
            out->as.item.key = key;
        }
    } else {
        p->at--;
        return parse_fail(p, ERR_INVALID, token->line, "expected name or number");
    }
    if (rc == 0) {
        rc = parse_adopt(p, out, *node);
        *node = out;
    }
    return rc;
}

int parse_postfix(struct parser *p, struct node **node)
{
    int rc = 0;
    while (rc == 0) {
        int line = p->at->line;
        if (parse_skip(p, T_DOT)) {
            rc = parse_dot(p, line, node);
        } else if (parse_skip(p, T_LBRACKET)) {
            rc = parse_brackets(p, line, node);
        } else if (p->at->kind == T_LPAREN) {
            rc = parse_call(p, node);
        } else {
            break;
        }
    }
    return rc;
}
