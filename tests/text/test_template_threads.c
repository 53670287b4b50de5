/* One template, rendered by several threads at once. */
#include "test.h"

#include <pthread.h>

#include "base/json.h"
#include "text/template.h"
#include "text/worked.h"

struct shared {
    const struct template *t;
    json_t *messages;
    char *text;
};

static void *render_many(void *arg)
{
    struct shared *s = arg;
    struct template_input input = {.messages = s->messages, .date = "2024-07-26"};
    for (int i = 0; i < 20; i++) {
        struct err err = {0};
        struct buf out;
        buf_init(&out, 1 << 20);
        if (template_render(s->t, &input, &out, &err) == 0) {
            mem_free(s->text);
            s->text = buf_take(&out);
        }
        buf_release(&out);
    }
    return NULL;
}

static void threads_share_a_template(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    static const char user[] = "[{\"role\": \"user\"}]";
    struct template *t = NULL;
    struct err err = {0};
    struct shared shared[THREADS];
    pthread_t threads[THREADS];
    assert_ok(template_new(worked, strlen(worked), &t, &err), &err);
    for (int i = 0; i < THREADS; i++) {
        shared[i] = (struct shared){.t = t, .messages = json_parse(user, strlen(user), &err)};
        assert_non_null(shared[i].messages);
        assert_int_equal(pthread_create(&threads[i], NULL, render_many, &shared[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_non_null(shared[i].text);
        assert_string_equal(shared[i].text, shared[0].text);
    }
    for (int i = 0; i < THREADS; i++) {
        mem_free(shared[i].text);
        json_decref(shared[i].messages);
    }
    template_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_share_a_template)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
