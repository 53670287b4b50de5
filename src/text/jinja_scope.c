/* Which names a scope hides.
 *
 * Variables are looked up from the innermost scope outwards, at run time. jinja2 decides at
 * compile time instead, and differs in one case, which this file finds: a name that a scope sets
 * unconditionally, did not read before, and that no scope around knows, is *missing* from the
 * scope's start, even where the caller's input has a variable of that name. So in
 *
 *     {% for m in messages %}{{ tools }}{% endfor %}{% set tools = 1 %}
 *
 * the loop prints nothing, whatever `tools` was given. A name first seen inside an `if` is looked
 * up as usual. Each scope's `hidden` lists such names; entering the scope sets them to missing.
 */
#include <string.h>

#include "text/jinja_ast.h"

/* Names that a scope knows so far. */
struct scope {
    const struct scope *outer;
    struct symbols known;
    struct symbols *hidden;
    bool in_branch;
};

static int visit(struct parser *p, struct scope *scope, const struct node *node);
static int visit_body(struct parser *p, struct scope *scope, const struct nodes *body);
static int analyze(struct parser *p, const struct scope *outer, const struct nodes *body);

static int symbols_add(struct parser *p, struct symbols *set, uint32_t symbol)
{
    if (set->n == set->cap) {
        uint32_t cap = set->cap == 0 ? 8 : 2 * set->cap;
        uint32_t *at = parse_alloc(p, cap, sizeof *at);
        if (at == NULL) {
            return p->failed;
        }
        if (set->n > 0) {
            memcpy(at, set->at, set->n * sizeof *at);
        }
        set->at = at;
        set->cap = cap;
    }
    set->at[set->n++] = symbol;
    return 0;
}

static bool has(const struct symbols *set, uint32_t symbol)
{
    for (uint32_t i = 0; i < set->n; i++) {
        if (set->at[i] == symbol) {
            return true;
        }
    }
    return false;
}

static bool known_outside(const struct scope *scope, uint32_t symbol)
{
    for (const struct scope *s = scope->outer; s != NULL; s = s->outer) {
        if (has(&s->known, symbol)) {
            return true;
        }
    }
    return false;
}

static int reads(struct parser *p, struct scope *scope, uint32_t symbol)
{
    if (has(&scope->known, symbol) || known_outside(scope, symbol)) {
        return 0;
    }
    return symbols_add(p, &scope->known, symbol);
}

static int sets(struct parser *p, struct scope *scope, uint32_t symbol)
{
    if (has(&scope->known, symbol)) {
        return 0;
    }
    int rc = symbols_add(p, &scope->known, symbol);
    if (rc == 0 && !scope->in_branch && !known_outside(scope, symbol)) {
        rc = symbols_add(p, scope->hidden, symbol);
    }
    return rc;
}

static int declares(struct parser *p, struct scope *scope, uint32_t symbol)
{
    return has(&scope->known, symbol) ? 0 : symbols_add(p, &scope->known, symbol);
}

/* A target of an assignment; `parameter`: of a loop or with, which has a value from the start. */
static int visit_target(struct parser *p, struct scope *scope, const struct node *node,
                        bool parameter)
{
    int rc = 0;
    switch (node->kind) {
    case N_NAME:
        return parameter ? declares(p, scope, node->as.name.symbol)
                         : sets(p, scope, node->as.name.symbol);
    case N_NAMESPACE_REF:
        return reads(p, scope, node->as.name.symbol);
    default:
        for (uint32_t i = 0; i < node->as.items.n && rc == 0; i++) {
            rc = visit_target(p, scope, node->as.items.at[i], parameter);
        }
        return rc;
    }
}

static int visit_args(struct parser *p, struct scope *scope, const struct call_args *args)
{
    int rc = visit_body(p, scope, &args->positional);
    for (uint32_t i = 0; i < args->n_keywords && rc == 0; i++) {
        rc = visit(p, scope, args->keywords[i].value);
    }
    if (rc == 0) {
        rc = visit(p, scope, args->star);
    }
    return rc == 0 ? visit(p, scope, args->star_star) : rc;
}

static int visit_branch(struct parser *p, struct scope *scope, const struct node *node)
{
    bool outer = scope->in_branch;
    int rc = 0;
    for (uint32_t i = 0; i < node->as.branch.n_bodies && rc == 0; i++) {
        if (i < node->as.branch.tests.n) {
            rc = visit(p, scope, node->as.branch.tests.at[i]);
        }
        scope->in_branch = true;
        if (rc == 0) {
            rc = visit_body(p, scope, &node->as.branch.bodies[i]);
        }
    }
    scope->in_branch = outer;
    return rc;
}

static int visit_parts(struct parser *p, struct scope *scope, struct node *const parts[4])
{
    int rc = 0;
    for (int i = 0; i < 4 && rc == 0; i++) {
        rc = visit(p, scope, parts[i]);
    }
    return rc;
}

static int visit_expression(struct parser *p, struct scope *scope, const struct node *node)
{
    int rc;
    switch (node->kind) {
    case N_NAME:
        return reads(p, scope, node->as.name.symbol);
    case N_LIST:
    case N_TUPLE:
    case N_CONCAT:
    case N_AND:
    case N_OR:
    case N_OUTPUT:
        return visit_body(p, scope, &node->as.items);
    case N_DICT:
        rc = visit_body(p, scope, &node->as.dict.keys);
        return rc == 0 ? visit_body(p, scope, &node->as.dict.values) : rc;
    case N_ATTRIBUTE:
        return visit(p, scope, node->as.attribute.object);
    case N_ITEM:
        rc = visit(p, scope, node->as.item.object);
        return rc == 0 ? visit(p, scope, node->as.item.key) : rc;
    case N_SLICE:
        return visit_parts(p, scope,
                           (struct node *const[4]){node->as.slice.object, node->as.slice.start,
                                                   node->as.slice.stop, node->as.slice.step});
    case N_CALL:
        rc = visit(p, scope, node->as.call.object);
        return rc == 0 ? visit_args(p, scope, &node->as.call.args) : rc;
    case N_FILTER:
    case N_TEST:
        rc = visit(p, scope, node->as.apply.object);
        return rc == 0 ? visit_args(p, scope, &node->as.apply.args) : rc;
    case N_NOT:
    case N_NEGATE:
    case N_PLUS:
        return visit(p, scope, node->as.operand);
    case N_ARITHMETIC:
    case N_COMPARE:
        rc = visit(p, scope, node->as.chain.first);
        return rc == 0 ? visit_body(p, scope, &node->as.chain.rest) : rc;
    case N_CONDITION:
        return visit_parts(p, scope,
                           (struct node *const[4]){node->as.condition.test, node->as.condition.then,
                                                   node->as.condition.otherwise, NULL});
    default:
        return 0;
    }
}

static int visit(struct parser *p, struct scope *scope, const struct node *node)
{
    int rc;
    if (node == NULL) {
        return 0;
    }
    switch (node->kind) {
    case N_IF:
        return visit_branch(p, scope, node);
    case N_FOR:
        return visit(p, scope, node->as.loop->iter);
    case N_SET:
        rc = visit(p, scope, node->as.set.value);
        return rc == 0 ? visit_target(p, scope, node->as.set.target, false) : rc;
    case N_SET_BLOCK:
        return visit_target(p, scope, node->as.block.target, false);
    case N_MACRO:
        return sets(p, scope, node->as.macro->symbol);
    case N_CALL_BLOCK:
        return visit(p, scope, node->as.call_block.call);
    case N_FILTER_BLOCK:
        return visit(p, scope, node->as.block.filter);
    case N_WITH:
        return visit_body(p, scope, &node->as.block.values);
    default:
        return visit_expression(p, scope, node);
    }
}

static int visit_body(struct parser *p, struct scope *scope, const struct nodes *body)
{
    int rc = 0;
    for (uint32_t i = 0; i < body->n && rc == 0; i++) {
        rc = visit(p, scope, body->at[i]);
    }
    return rc;
}

static int analyze_loop(struct parser *p, const struct scope *outer, struct loop_def *loop)
{
    struct scope body = {.outer = outer, .hidden = &loop->hidden};
    struct scope otherwise = {.outer = outer, .hidden = &loop->otherwise_hidden};
    loop->loop_symbol = symbol_of(p, "loop");
    int rc = declares(p, &body, loop->loop_symbol);
    if (rc == 0) {
        rc = visit_target(p, &body, loop->target, true);
    }
    if (rc == 0) {
        rc = visit_body(p, &body, &loop->body);
    }
    if (rc == 0) {
        rc = analyze(p, &body, &loop->body);
    }
    if (rc == 0) {
        rc = visit_body(p, &otherwise, &loop->otherwise);
    }
    return rc == 0 ? analyze(p, &otherwise, &loop->otherwise) : rc;
}

static int analyze_macro(struct parser *p, const struct scope *outer, struct macro_def *macro)
{
    struct scope body = {.outer = outer, .hidden = &macro->hidden};
    int rc = 0;
    macro->caller_symbol = symbol_of(p, "caller");
    macro->kwargs_symbol = symbol_of(p, "kwargs");
    macro->varargs_symbol = symbol_of(p, "varargs");
    for (uint32_t i = 0; i < macro->params.n && rc == 0; i++) {
        rc = declares(p, &body, macro->params.at[i]->as.name.symbol);
    }
    if (rc == 0) {
        rc = visit_body(p, &body, &macro->defaults);
    }
    if (rc == 0 && macro->wants_caller) {
        rc = declares(p, &body, macro->caller_symbol);
    }
    if (rc == 0 && macro->wants_kwargs) {
        rc = declares(p, &body, macro->kwargs_symbol);
    }
    if (rc == 0 && macro->wants_varargs) {
        rc = declares(p, &body, macro->varargs_symbol);
    }
    if (rc == 0) {
        rc = visit_body(p, &body, &macro->body);
    }
    return rc == 0 ? analyze(p, &body, &macro->body) : rc;
}

static int analyze_block(struct parser *p, const struct scope *outer, struct node *node)
{
    struct scope body = {.outer = outer, .hidden = &node->as.block.hidden};
    int rc = 0;
    for (uint32_t i = 0; i < node->as.block.targets.n && rc == 0; i++) {
        rc = visit_target(p, &body, node->as.block.targets.at[i], true);
    }
    if (rc == 0) {
        rc = visit_body(p, &body, &node->as.block.body);
    }
    return rc == 0 ? analyze(p, &body, &node->as.block.body) : rc;
}

/* Goes on into the scopes inside a body whose own names are all known by now. */
static int analyze(struct parser *p, const struct scope *outer, const struct nodes *body)
{
    int rc = 0;
    for (uint32_t i = 0; i < body->n && rc == 0; i++) {
        struct node *node = body->at[i];
        switch (node->kind) {
        case N_IF:
            for (uint32_t b = 0; b < node->as.branch.n_bodies && rc == 0; b++) {
                rc = analyze(p, outer, &node->as.branch.bodies[b]);
            }
            break;
        case N_FOR:
            rc = analyze_loop(p, outer, node->as.loop);
            break;
        case N_MACRO:
            rc = analyze_macro(p, outer, node->as.macro);
            break;
        case N_CALL_BLOCK:
            rc = analyze_macro(p, outer, node->as.call_block.body);
            break;
        case N_SET_BLOCK:
        case N_FILTER_BLOCK:
        case N_WITH:
        case N_GENERATION:
            rc = analyze_block(p, outer, node);
            break;
        default:
            break;
        }
    }
    return rc;
}

int scope_analyze(struct parser *p, struct nodes *body, struct symbols *root)
{
    struct scope scope = {.hidden = root};
    int rc = visit_body(p, &scope, body);
    return rc == 0 ? analyze(p, &scope, body) : rc;
}
