/* Parses statements: a template is data, {{ outputs }} and {% blocks %}.
 *
 * A body runs up to one of the tags that may end it; the caller looks at which. Tags of Jinja2
 * that reach beyond one template (extends, include, import, block) and autoescape are known and
 * refused as unsupported; any other unknown tag is an error of the template's.
 */
#include <string.h>

#include "text/jinja_ast.h"
#include "text/template.h"

enum { ENDS_MAX = 4 };

/* Names of tags that may end a body, NULL behind the last. */
struct ends {
    const char *at[ENDS_MAX];
};

static int parse_body(struct parser *p, const struct ends *ends, struct nodes *out);

static bool at_end(const struct parser *p, const struct ends *ends)
{
    for (size_t i = 0; i < ENDS_MAX && ends->at[i] != NULL; i++) {
        if (token_is_name(p->at, ends->at[i])) {
            return true;
        }
    }
    return false;
}

/* From the end of an opening tag to one of `ends`, which is left at p->at. */
static int parse_statements(struct parser *p, const struct ends *ends, struct nodes *out)
{
    (void)parse_skip(p, T_COLON);
    int rc = parse_expect(p, T_BLOCK_END);
    if (rc == 0) {
        rc = parse_enter(p);
    }
    if (rc != 0) {
        return rc;
    }
    rc = parse_body(p, ends, out);
    p->depth--;
    return rc;
}

/* As parse_statements, for the one end `name`, which is taken; the body is a scope of its own, in
 * which an unknown filter is an error again. */
static int parse_scope(struct parser *p, const char *name, struct nodes *out)
{
    bool soft = p->soft;
    p->soft = false;
    int rc = parse_statements(p, &(struct ends){{name}}, out);
    p->soft = soft;
    if (rc == 0) {
        p->at++;
    }
    return rc;
}

static int parse_if(struct parser *p, int line, struct node **out)
{
    static const struct ends ends = {{"elif", "else", "endif"}};
    bool soft = p->soft;
    uint32_t cap = 4;
    int rc = parse_new(p, N_IF, line, out);
    struct nodes *bodies = rc != 0 ? NULL : parse_alloc(p, cap, sizeof *bodies);
    if (bodies == NULL) {
        return p->failed;
    }
    p->soft = true;
    bool more = true;
    uint32_t n = 0;
    while (rc == 0 && more) {
        struct node *test = NULL;
        if (n + 2 > cap) {
            struct nodes *grown = parse_alloc(p, 2 * cap, sizeof *grown);
            if (grown == NULL) {
                return p->failed;
            }
            memcpy(grown, bodies, n * sizeof *grown);
            bodies = grown;
            cap *= 2;
        }
        rc = parse_tuple(p, false, &test);
        if (rc == 0) {
            rc = nodes_add(p, &(*out)->as.branch.tests, test);
        }
        if (rc == 0) {
            rc = parse_statements(p, &ends, &bodies[n++]);
        }
        if (rc == 0) {
            more = token_is_name(p->at, "elif");
            bool otherwise = token_is_name(p->at, "else");
            p->at++;
            if (otherwise) {
                rc = parse_statements(p, &(struct ends){{"endif"}}, &bodies[n++]);
                p->at += rc == 0;
            }
        }
    }
    p->soft = soft;
    (*out)->as.branch.bodies = bodies;
    (*out)->as.branch.n_bodies = n;
    return rc;
}

static int parse_for(struct parser *p, int line, struct node **out)
{
    static const struct ends ends = {{"endfor", "else"}};
    int rc = parse_new(p, N_FOR, line, out);
    struct loop_def *loop = rc != 0 ? NULL : parse_alloc(p, 1, sizeof *loop);
    if (loop == NULL) {
        return p->failed;
    }
    (*out)->as.loop = loop;
    bool soft = p->soft;
    p->loops_anywhere++;
    rc = parse_target(p, false, &loop->target);
    if (rc == 0 && !parse_skip_name(p, "in")) {
        rc = parse_fail(p, ERR_INVALID, p->at->line, "expected token 'in', got '%s'",
                        token_name(p->at));
    }
    if (rc == 0) {
        rc = parse_tuple(p, false, &loop->iter);
    }
    p->soft = false;
    if (rc == 0 && parse_skip_name(p, "if")) {
        rc = parse_expression(p, true, &loop->test);
    }
    loop->recursive = rc == 0 && parse_skip_name(p, "recursive");
    p->loops++;
    if (rc == 0) {
        rc = parse_statements(p, &ends, &loop->body);
    }
    p->loops--;
    if (rc == 0) {
        bool otherwise = token_is_name(p->at, "else");
        p->at++;
        if (otherwise) {
            rc = parse_scope(p, "endfor", &loop->otherwise);
        }
    }
    p->loops_anywhere--;
    p->soft = soft;
    return rc;
}

static int parse_set(struct parser *p, int line, struct node **out)
{
    struct node *target = NULL;
    struct node *value = NULL;
    struct node *filter = NULL;
    int rc = parse_target(p, true, &target);
    if (rc != 0) {
        return rc;
    }
    if (parse_skip(p, T_ASSIGN)) {
        rc = parse_tuple(p, true, &value);
        if (rc == 0) {
            rc = parse_new(p, N_SET, line, out);
        }
        if (rc == 0) {
            (*out)->as.set.target = target;
            (*out)->as.set.value = value;
        }
        return rc;
    }
    rc = parse_block_filter(p, false, &filter);
    if (rc == 0) {
        rc = parse_new(p, N_SET_BLOCK, line, out);
    }
    if (rc == 0) {
        (*out)->as.block.target = target;
        (*out)->as.block.filter = filter;
        rc = parse_scope(p, "endset", &(*out)->as.block.body);
    }
    return rc;
}

/* (a, b=1): p->at is on the parenthesis. */
static int parse_signature(struct parser *p, struct macro_def *macro)
{
    int rc = parse_expect(p, T_LPAREN);
    while (rc == 0 && p->at->kind != T_RPAREN) {
        struct node *param = NULL;
        struct node *value = NULL;
        if (macro->params.n > 0) {
            rc = parse_expect(p, T_COMMA);
        }
        int line = p->at->line;
        const char *name = p->at->text;
        if (rc == 0) {
            rc = parse_expect(p, T_NAME);
        }
        if (rc == 0) {
            rc = parse_new(p, N_NAME, line, &param);
        }
        if (rc == 0) {
            param->as.name.text = name;
            param->as.name.symbol = symbol_of(p, name);
            rc = nodes_add(p, &macro->params, param);
        }
        for (uint32_t i = 0; rc == 0 && i + 1 < macro->params.n; i++) {
            if (strcmp(macro->params.at[i]->as.name.text, name) == 0) {
                rc = parse_fail(p, ERR_INVALID, line, "duplicate argument '%s'", name);
            }
        }
        if (rc == 0 && parse_skip(p, T_ASSIGN)) {
            rc = parse_expression(p, true, &value);
            if (rc == 0) {
                rc = nodes_add(p, &macro->defaults, value);
            }
        } else if (rc == 0 && macro->defaults.n > 0) {
            rc = parse_fail(p, ERR_INVALID, line, "non-default argument follows default argument");
        }
    }
    return rc == 0 ? parse_expect(p, T_RPAREN) : rc;
}

/* The body of a macro or call block: loops around it can't be left from inside. */
static int parse_macro_body(struct parser *p, struct macro_def *macro, const char *end)
{
    struct enclosing inner = {.macro = macro, .outer = p->macros};
    unsigned loops = p->loops;
    p->macros = &inner;
    p->loops = 0;
    int rc = parse_scope(p, end, &macro->body);
    p->macros = inner.outer;
    p->loops = loops;
    return rc;
}

static int parse_macro(struct parser *p, int line, struct node **out)
{
    int rc = parse_new(p, N_MACRO, line, out);
    struct macro_def *macro = rc != 0 ? NULL : parse_alloc(p, 1, sizeof *macro);
    if (macro == NULL) {
        return p->failed;
    }
    (*out)->as.macro = macro;
    macro->name = p->at->text;
    rc = parse_expect(p, T_NAME);
    if (rc == 0) {
        macro->symbol = symbol_of(p, macro->name);
        rc = parse_signature(p, macro);
    }
    return rc == 0 ? parse_macro_body(p, macro, "endmacro") : rc;
}

static int parse_call_block(struct parser *p, int line, struct node **out)
{
    int rc = parse_new(p, N_CALL_BLOCK, line, out);
    struct macro_def *macro = rc != 0 ? NULL : parse_alloc(p, 1, sizeof *macro);
    if (macro == NULL) {
        return p->failed;
    }
    (*out)->as.call_block.body = macro;
    if (p->at->kind == T_LPAREN) {
        rc = parse_signature(p, macro);
    }
    if (rc == 0) {
        rc = parse_expression(p, true, &(*out)->as.call_block.call);
    }
    if (rc == 0 && (*out)->as.call_block.call->kind != N_CALL) {
        rc = parse_fail(p, ERR_INVALID, line, "expected call");
    }
    return rc == 0 ? parse_macro_body(p, macro, "endcall") : rc;
}

static int parse_filter_block(struct parser *p, int line, struct node **out)
{
    int rc = parse_new(p, N_FILTER_BLOCK, line, out);
    if (rc == 0) {
        rc = parse_block_filter(p, true, &(*out)->as.block.filter);
    }
    return rc == 0 ? parse_scope(p, "endfilter", &(*out)->as.block.body) : rc;
}

static int parse_with(struct parser *p, int line, struct node **out)
{
    int rc = parse_new(p, N_WITH, line, out);
    while (rc == 0 && p->at->kind != T_BLOCK_END) {
        struct node *target = NULL;
        struct node *value = NULL;
        if ((*out)->as.block.targets.n > 0) {
            rc = parse_expect(p, T_COMMA);
        }
        if (rc == 0) {
            rc = parse_target(p, false, &target);
        }
        if (rc == 0) {
            rc = parse_expect(p, T_ASSIGN);
        }
        if (rc == 0) {
            rc = parse_expression(p, true, &value);
        }
        if (rc == 0) {
            rc = nodes_add(p, &(*out)->as.block.targets, target);
        }
        if (rc == 0) {
            rc = nodes_add(p, &(*out)->as.block.values, value);
        }
    }
    return rc == 0 ? parse_scope(p, "endwith", &(*out)->as.block.body) : rc;
}

/* transformers marks what the assistant said; here it only makes a scope. */
static int parse_generation(struct parser *p, int line, struct node **out)
{
    unsigned loops = p->loops;
    p->loops = 0;
    int rc = parse_new(p, N_GENERATION, line, out);
    if (rc == 0) {
        rc = parse_scope(p, "endgeneration", &(*out)->as.block.body);
    }
    p->loops = loops;
    return rc;
}

static int parse_print(struct parser *p, int line, struct node **out)
{
    int rc = parse_new(p, N_OUTPUT, line, out);
    while (rc == 0 && p->at->kind != T_BLOCK_END) {
        struct node *value = NULL;
        if ((*out)->as.items.n > 0) {
            rc = parse_expect(p, T_COMMA);
        }
        if (rc == 0) {
            rc = parse_expression(p, true, &value);
        }
        if (rc == 0) {
            rc = nodes_add(p, &(*out)->as.items, value);
        }
    }
    return rc;
}

static int parse_break(struct parser *p, int line, struct node **out)
{
    if (p->loops == 0) {
        return parse_fail(p, ERR_INVALID, line, "'break' outside loop");
    }
    return parse_new(p, N_BREAK, line, out);
}

static int parse_continue(struct parser *p, int line, struct node **out)
{
    if (p->loops == 0) {
        return parse_fail(p, ERR_INVALID, line, "'continue' not properly in loop");
    }
    return parse_new(p, N_CONTINUE, line, out);
}

static const struct {
    const char *name;
    int (*parse)(struct parser *p, int line, struct node **out); /* NULL: not supported */
} tags[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"generation", parse_generation},
    {"print", parse_print},
    {"break", parse_break},
    {"continue", parse_continue},
    {"block", NULL},
    {"extends", NULL},
    {"include", NULL},
    {"import", NULL},
    {"from", NULL},
    {"autoescape", NULL},
};

static int parse_tag(struct parser *p, struct node **out)
{
    const struct token *token = p->at;
    if (token->kind != T_NAME) {
        return parse_fail(p, ERR_INVALID, token->line, "tag name expected");
    }
    p->at++;
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (strcmp(tags[i].name, token->text) == 0) {
            return tags[i].parse != NULL ? tags[i].parse(p, token->line, out)
                                         : parse_fail(p, ERR_UNSUPPORTED, token->line,
                                                      "the tag '%s' is not supported", token->text);
        }
    }
    return parse_fail(p, ERR_INVALID, token->line, "Encountered unknown tag '%s'.", token->text);
}

/* Appends to the output node that ends `out`, making one if need be. */
static int add_output(struct parser *p, struct nodes *out, struct node *value, int line)
{
    struct node *output = out->n > 0 ? out->at[out->n - 1] : NULL;
    int rc = 0;
    if (output == NULL || output->kind != N_OUTPUT) {
        rc = parse_new(p, N_OUTPUT, line, &output);
        if (rc == 0) {
            rc = nodes_add(p, out, output);
        }
    }
    return rc == 0 ? nodes_add(p, &output->as.items, value) : rc;
}

static int parse_output(struct parser *p, struct nodes *out)
{
    int line = p->at->line;
    struct node *value = NULL;
    int rc = 0;
    if (p->at->kind == T_DATA) {
        rc = parse_new(p, N_CONST, line, &value);
        if (rc == 0) {
            value->as.constant = jv_string(p->at->text, p->at->len);
            p->at++;
        }
    } else {
        p->at++;
        rc = parse_tuple(p, true, &value);
        if (rc == 0) {
            rc = parse_expect(p, T_VARIABLE_END);
        }
    }
    return rc == 0 ? add_output(p, out, value, line) : rc;
}

/* Up to one of `ends` (NULL: up to the end of the source). */
static int parse_body(struct parser *p, const struct ends *ends, struct nodes *out)
{
    int rc = 0;
    while (rc == 0 && p->at->kind != T_EOF) {
        if (p->at->kind != T_BLOCK_BEGIN) {
            rc = parse_output(p, out);
            continue;
        }
        p->at++;
        if (ends != NULL && at_end(p, ends)) {
            return 0;
        }
        struct node *node = NULL;
        rc = parse_tag(p, &node);
        if (rc == 0) {
            rc = parse_expect(p, T_BLOCK_END);
        }
        if (rc == 0) {
            rc = nodes_add(p, out, node);
        }
    }
    if (rc == 0 && ends != NULL) {
        rc = parse_fail(p, ERR_INVALID, p->at->line,
                        "Unexpected end of template. Looking for the tag '%s'.", ends->at[0]);
    }
    return rc;
}

int parse_template(struct parser *p, struct nodes *out)
{
    int rc = parse_body(p, NULL, out);
    if (rc == 0 && p->unknown != NULL) {
        rc =
            parse_fail(p, ERR_INVALID, p->unknown->line, "No %s named '%s'.",
                       p->unknown->kind == N_FILTER ? "filter" : "test", p->unknown->as.apply.name);
    }
    return rc;
}
