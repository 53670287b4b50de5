/* What config.json and GGUF metadata say of each family: defaults of its row, layers that slide or
 * have no rope, scales and caps; and everything that is refused, by name. */
#include <jansson.h>

#include "formats/gguf_builder.h"
#include "formats/gguf_config.h"
#include "formats/hf_config.h"
#include "test.h"

static const char base[] = "{\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":8,"
                           "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":50}";

/* The base with what `patch` says over it. */
static int read_config(const char *patch, struct model_config *config, struct err *err)
{
    json_t *root = json_loads(base, 0, NULL), *more = json_loads(patch, 0, NULL);
    assert_non_null(root);
    assert_non_null(more);
    assert_int_equal(json_object_update(root, more), 0);
    const int rc = hf_config_read(root, NULL, config, err);
    json_decref(root);
    json_decref(more);
    return rc;
}

/* "s" slides, "n" has no rope, "." is plain. */
static void layers_text(const struct model_config *config, char text[16])
{
    for (uint32_t i = 0; i < config->n_layers; i++) {
        text[i] = config->layers[i] & MODEL_LAYER_SLIDING   ? 's'
                  : config->layers[i] & MODEL_LAYER_NO_ROPE ? 'n'
                                                            : '.';
    }
    text[config->n_layers] = '\0';
}

static void test_layers(void **state)
{
    (void)state;
    static const struct {
        const char *patch, *layers;
        uint32_t window;
    } ROWS[] = {
        {"{\"model_type\":\"llama\",\"sliding_window\":4}", "........", 0},
        {"{\"model_type\":\"mistral\"}", "ssssssss", 4096},
        {"{\"model_type\":\"mistral\",\"sliding_window\":null}", "........", 0},
        {"{\"model_type\":\"mistral\",\"sliding_window\":7}", "ssssssss", 7},
        {"{\"model_type\":\"phi3\"}", "........", 0},
        {"{\"model_type\":\"phi3\",\"sliding_window\":7}", "ssssssss", 7},
        {"{\"model_type\":\"qwen2\",\"sliding_window\":7}", "........", 0},
        {"{\"model_type\":\"qwen2\",\"sliding_window\":7,\"use_sliding_window\":false}", "........",
         0},
        {"{\"model_type\":\"qwen2\",\"sliding_window\":7,\"use_sliding_window\":true,"
         "\"max_window_layers\":6}",
         "......ss", 7},
        {"{\"model_type\":\"qwen3\",\"sliding_window\":7,\"use_sliding_window\":true,"
         "\"layer_types\":[\"full_attention\",\"sliding_attention\",\"full_attention\","
         "\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\","
         "\"full_attention\"]}",
         ".s......", 7},
        {"{\"model_type\":\"gemma2\"}", "s.s.s.s.", 4096},
        {"{\"model_type\":\"gemma3_text\",\"sliding_window\":512}", "sssss.ss", 512},
        {"{\"model_type\":\"gemma3_text\",\"sliding_window_pattern\":4}", "sss.sss.", 4096},
        {"{\"model_type\":\"smollm3\"}", "...n...n", 0},
        {"{\"model_type\":\"smollm3\",\"no_rope_layer_interval\":3}", "..n..n..", 0},
        {"{\"model_type\":\"smollm3\",\"no_rope_layers\":[1,0,1,1,1,1,1,0]}", ".n.....n", 0},
        {"{\"model_type\":\"olmo2\"}", "........", 0},
        {"{\"model_type\":\"granite\"}", "........", 0},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct model_config config;
        struct err err = {0};
        char text[16];
        assert_ok(read_config(ROWS[i].patch, &config, &err), &err);
        layers_text(&config, text);
        if (strcmp(text, ROWS[i].layers) != 0 || config.sliding_window != ROWS[i].window)
            fail_msg("%s: layers %s, window %u", ROWS[i].patch, text, config.sliding_window);
    }
}

static void test_families_fill_in_what_is_unsaid(void **state)
{
    (void)state;
    struct model_config c;
    struct err err = {0};
    assert_ok(read_config("{\"model_type\":\"gemma2\"}", &c, &err), &err);
    assert_string_equal(c.arch, "gemma2");
    assert_true(c.tied_embeddings && c.head_dim == 256 && c.activation == ACTIVATION_GELU_TANH);
    assert_true(c.attention_cap == 50 && c.logit_cap == 30 && c.embedding_scale == 8);
    assert_true(c.attention_scale == 1.0 / 16 && c.rope_theta_local == 0);
    assert_ok(read_config("{\"model_type\":\"gemma2\",\"attn_logit_softcapping\":null,"
                          "\"final_logit_softcapping\":20.5}",
                          &c, &err),
              &err);
    assert_true(c.attention_cap == 0 && c.logit_cap == 20.5);
    assert_ok(read_config("{\"model_type\":\"gemma3_text\",\"rope_scaling\":{\"factor\":8,"
                          "\"rope_type\":\"linear\"},\"rope_local_base_freq\":5000}",
                          &c, &err),
              &err);
    assert_string_equal(c.arch, "gemma3");
    assert_true(c.rope_theta == 1e6 && c.rope_theta_local == 5000 && c.logit_cap == 0);
    assert_true(c.rope_scaling.type == ROPE_SCALING_LINEAR && c.rope_scaling.factor == 8);
    assert_ok(read_config("{\"model_type\":\"qwen2\",\"attention_bias\":false}", &c, &err), &err);
    assert_true(c.attention_bias && !c.output_bias && !c.mlp_bias && c.attention_scale == 0);
    assert_ok(read_config("{\"model_type\":\"qwen3\"}", &c, &err), &err);
    assert_true(c.head_dim == 128 && !c.attention_bias);
    assert_ok(read_config("{\"model_type\":\"granite\",\"logits_scaling\":4,"
                          "\"attention_multiplier\":0.25,\"attention_bias\":true}",
                          &c, &err),
              &err);
    assert_true(c.logit_scale == 0.25 && c.attention_scale == 0.25 && c.residual_scale == 1);
    assert_true(c.attention_bias && c.output_bias);
    assert_ok(read_config("{\"model_type\":\"phi3\",\"partial_rotary_factor\":0.5}", &c, &err),
              &err);
    assert_true(c.head_dim == 16 && c.rope_dim == 8);
}

static void test_a_text_model_inside_a_larger_one(void **state)
{
    (void)state;
    struct model_config c;
    struct err err = {0};
    assert_ok(read_config("{\"model_type\":\"gemma3\",\"hidden_size\":1,\"eos_token_id\":[1,106],"
                          "\"text_config\":{\"hidden_size\":2560,\"intermediate_size\":10240,"
                          "\"model_type\":\"gemma3_text\",\"num_hidden_layers\":7,"
                          "\"rope_scaling\":{\"factor\":8.0,\"rope_type\":\"linear\"},"
                          "\"sliding_window\":1024}}",
                          &c, &err),
              &err);
    assert_string_equal(c.arch, "gemma3");
    assert_true(c.hidden == 2560 && c.n_heads == 8 && c.n_kv_heads == 4 && c.vocab == 262208);
    assert_true(c.n_eos == 2 && c.eos_ids[1] == 106 && c.n_layers == 7);
}

static void test_what_is_not_served_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *patch;
        enum err_code code;
        const char *says;
    } ROWS[] = {
        {"{\"model_type\":\"gemma4\"}", ERR_UNSUPPORTED, "architecture 'gemma4'"},
        {"{\"model_type\":\"gemma3\"}", ERR_CORRUPT, "\"text_config\" is of the wrong type"},
        {"{\"model_type\":\"gemma3\",\"text_config\":{\"hidden_size\":64}}", ERR_CORRUPT,
         "\"intermediate_size\" is missing"},
        {"{\"model_type\":\"phi3\",\"rope_scaling\":{\"type\":\"longrope\",\"long_factor\":[1],"
         "\"short_factor\":[1]}}",
         ERR_CORRUPT, "\"original_max_position_embeddings\" is 0"},
        {"{\"model_type\":\"phi3\",\"original_max_position_embeddings\":64,\"rope_scaling\":{"
         "\"type\":\"longrope\",\"long_factor\":[1],\"short_factor\":[1]}}",
         ERR_CORRUPT, "\"long_factor\" lists 1 factors, rope needs 8"},
        {"{\"model_type\":\"phi3\",\"original_max_position_embeddings\":64,\"rope_scaling\":{"
         "\"type\":\"su\",\"long_factor\":[1,1,1,1,1,1,1,1],"
         "\"short_factor\":[1,1,1,0,1,1,1,1]}}",
         ERR_CORRUPT, "a short factor of rope is 0"},
        {"{\"model_type\":\"qwen2\",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4}}",
         ERR_UNSUPPORTED, "rope scaling 'dynamic'"},
        {"{\"model_type\":\"qwen2\",\"rope_scaling\":{\"type\":\"yarn\"}}", ERR_CORRUPT,
         "the rope scaling factor is 0"},
        {"{\"model_type\":\"qwen2\",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,"
         "\"beta_fast\":1}}",
         ERR_CORRUPT, "rope's beta_fast is 1, it must be above 1"},
        {"{\"model_type\":\"qwen2\",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,"
         "\"beta_slow\":0}}",
         ERR_CORRUPT, "rope's beta_slow is 0"},
        {"{\"model_type\":\"qwen2\",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,"
         "\"original_max_position_embeddings\":6}}",
         ERR_CORRUPT, "too short for rope's beta_slow 1"},
        {"{\"model_type\":\"qwen2\",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,"
         "\"attention_factor\":-1}}",
         ERR_CORRUPT, "rope's attention factor is -1"},
        {"{\"model_type\":\"qwen2\",\"hidden_act\":\"relu2\"}", ERR_UNSUPPORTED,
         "activation 'relu2'"},
        {"{\"model_type\":\"gemma2\",\"hidden_activation\":\"gelu\"}", ERR_UNSUPPORTED,
         "activation 'gelu'"},
        {"{\"model_type\":\"gemma3_text\",\"use_bidirectional_attention\":true}", ERR_UNSUPPORTED,
         "\"use_bidirectional_attention\""},
        {"{\"model_type\":\"qwen3\",\"use_sliding_window\":true,\"layer_types\":["
         "\"chunked_attention\",\"\",\"\",\"\",\"\",\"\",\"\",\"\"]}",
         ERR_UNSUPPORTED, "layer type 'chunked_attention'"},
        {"{\"model_type\":\"gemma2\",\"layer_types\":[\"full_attention\"]}", ERR_CORRUPT,
         "\"layer_types\" lists 1 layers, the model has 8"},
        {"{\"model_type\":\"gemma2\",\"layer_types\":5}", ERR_CORRUPT, "\"layer_types\""},
        {"{\"model_type\":\"smollm3\",\"use_sliding_window\":true,\"sliding_window\":8}",
         ERR_UNSUPPORTED, "\"use_sliding_window\" without \"layer_types\""},
        {"{\"model_type\":\"smollm3\",\"no_rope_layers\":[1,1,\"x\",1,1,1,1,1]}", ERR_CORRUPT,
         "\"no_rope_layers\""},
        {"{\"model_type\":\"gemma3_text\",\"rope_parameters\":{\"full_attention\":{},"
         "\"sliding_attention\":{\"rope_type\":\"linear\",\"factor\":2}}}",
         ERR_UNSUPPORTED, "rope scaling of sliding layers"},
        {"{\"model_type\":\"gemma2\",\"query_pre_attn_scalar\":0}", ERR_CORRUPT,
         "\"query_pre_attn_scalar\" is 0"},
        {"{\"model_type\":\"gemma2\",\"attn_logit_softcapping\":-1}", ERR_CORRUPT,
         "\"attn_logit_softcapping\" is -1"},
        {"{\"model_type\":\"granite\",\"attention_multiplier\":2}", ERR_CORRUPT,
         "the attention scale is 2"},
        {"{\"model_type\":\"granite\",\"logits_scaling\":0}", ERR_CORRUPT, "the logit scale"},
        {"{\"model_type\":\"granite\",\"residual_multiplier\":-1}", ERR_CORRUPT,
         "the residual scale is -1"},
        {"{\"model_type\":\"phi3\",\"partial_rotary_factor\":1.5}", ERR_CORRUPT,
         "\"partial_rotary_factor\" is 1.5"},
        {"{\"model_type\":\"phi3\",\"partial_rotary_factor\":0.01}", ERR_CORRUPT,
         "rope turns 0 dimensions"},
        {"{\"model_type\":\"llama\",\"num_hidden_layers\":5000}", ERR_CORRUPT,
         "the number of layers is 5000"},
        {"{\"model_type\":\"mistral\",\"num_hidden_layers\":5000}", ERR_CORRUPT,
         "the number of layers is 5000"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct model_config config;
        struct err err = {0};
        const int rc = read_config(ROWS[i].patch, &config, &err);
        if (rc != -(int)ROWS[i].code || !strstr(err.message, ROWS[i].says))
            fail_msg("%s: got %d \"%s\"", ROWS[i].patch, rc, err.message);
    }
}

/* --- GGUF --- */

enum { GGUF_LAYERS = 7, KEYS_MAX = 3 };

/* One GGUF file of a family: numbers beside the required ones, a list of layers, factors of rope.
 */
struct gguf_case {
    const char *arch;
    struct {
        const char *key;
        double value;
        bool real;
    } keys[KEYS_MAX];
    const char *list;                     /* layers of sliding_window_pattern: "s." … */
    unsigned long_factors, short_factors; /* how many; 0: no such tensor */
    /* what comes of it */
    enum err_code code;
    const char *says; /* the error, or the layers */
};

static void put_case(struct buf *out, const struct gguf_case *c)
{
    static const struct {
        const char *key;
        uint32_t value;
    } required[] = {{"block_count", GGUF_LAYERS},    {"context_length", 512},
                    {"embedding_length", 64},        {"feed_forward_length", 96},
                    {"attention.head_count", 4},     {"attention.head_count_kv", 2},
                    {"attention.key_length", 16},    {"attention.value_length", 16},
                    {"attention.sliding_window", 5}, {"vocab_size", 40}};
    const uint64_t n_required = sizeof required / sizeof *required;
    const uint64_t factors[2] = {c->long_factors, c->short_factors};
    char key[96];
    uint64_t n_keys = 0;
    while (n_keys < KEYS_MAX && c->keys[n_keys].key)
        n_keys++;
    put_header(out, 3, (factors[0] > 0) + (factors[1] > 0), 2 + n_required + n_keys + !!c->list);
    put_kv_string(out, "general.architecture", c->arch);
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", c->arch);
    put_kv_f32(out, key, 1e-5f);
    for (size_t i = 0; i < n_required; i++) {
        snprintf(key, sizeof key, "%s.%s", c->arch, required[i].key);
        put_kv_u32(out, key, required[i].value);
    }
    for (size_t i = 0; i < n_keys; i++) {
        snprintf(key, sizeof key, "%s.%s", c->arch, c->keys[i].key);
        if (c->keys[i].real)
            put_kv_f32(out, key, (float)c->keys[i].value);
        else
            put_kv_u32(out, key, (uint32_t)c->keys[i].value);
    }
    if (c->list) {
        snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", c->arch);
        put_kv_array(out, key, GGUF_BOOL, strlen(c->list));
        for (const char *at = c->list; *at; at++)
            buf_putc(out, *at == 's');
    }
    if (factors[0] > 0)
        put_tensor(out, "rope_factors_long.weight", 1, &factors[0], FILE_F32, 0);
    if (factors[1] > 0)
        put_tensor(out, "rope_factors_short.weight", 1, &factors[1], FILE_F32,
                   factors[0] > 0 ? 32 : 0);
    put_padding(out, GGUF_ALIGNMENT_DEFAULT);
    for (int i = 0; i < (factors[1] > 0 ? 16 : factors[0] > 0 ? 8 : 0); i++)
        put_f32(out, 1.0f + (float)i);
}

static int read_case(const struct gguf_case *c, struct model_config *config, struct err *err)
{
    struct buf file;
    struct gguf *gguf = NULL;
    buf_init(&file, GGUF_BUILDER_BYTES_MAX);
    put_case(&file, c);
    int rc = gguf_parse(file.data, file.len, &gguf, err);
    rc = rc == 0 ? gguf_config_read(gguf, config, err) : rc;
    gguf_free(gguf);
    buf_release(&file);
    return rc;
}

static void test_gguf_metadata(void **state)
{
    (void)state;
    static const struct gguf_case ROWS[] = {
        {.arch = "llama", .says = "......."},
        {.arch = "qwen3", .says = "......."},
        {.arch = "phi3", .says = "sssssss"},
        {.arch = "smollm3", .says = "...n..."},
        {.arch = "gemma2", .says = "s.s.s.s"},
        {.arch = "gemma3", .says = "sssss.s"},
        {.arch = "gemma3",
         .keys = {{"attention.sliding_window_pattern", 3, false}},
         .says = "ss.ss.s"},
        {.arch = "gemma3", .list = "s.ss...", .says = "s.ss..."},
        {.arch = "gemma3",
         .list = "s.",
         .code = ERR_CORRUPT,
         .says = "'gemma3.attention.sliding_window_pattern' lists 2 layers of 7"},
        {.arch = "gemma3",
         .keys = {{"attention.sliding_window", 0, false}},
         .code = ERR_CORRUPT,
         .says = "gemma3.attention.sliding_window"}, /* twice */
        {.arch = "mistral3", .code = ERR_UNSUPPORTED, .says = "architecture 'mistral3'"},
        {.arch = "granite",
         .keys = {{"attention.scale", 1.5, true}},
         .code = ERR_CORRUPT,
         .says = "the attention scale is 1.5"},
        {.arch = "granite",
         .keys = {{"rope.dimension_count", 8, false}},
         .code = ERR_UNSUPPORTED,
         .says = "heads of 16 with rope over 8"},
        {.arch = "phi3", .keys = {{"rope.dimension_count", 8, false}}, .says = "sssssss"},
        {.arch = "phi3",
         .keys = {{"rope.scaling.original_context_length", 128, false}},
         .long_factors = 8,
         .short_factors = 8,
         .says = "sssssss"},
        {.arch = "phi3",
         .long_factors = 8,
         .short_factors = 8,
         .code = ERR_CORRUPT,
         .says = "original_max_position_embeddings is 0"},
        {.arch = "phi3",
         .long_factors = 8,
         .code = ERR_CORRUPT,
         .says = "'rope_factors_short.weight' must hold 8"},
        {.arch = "phi3",
         .long_factors = 7,
         .short_factors = 8,
         .code = ERR_CORRUPT,
         .says = "'rope_factors_long.weight' must hold 8"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct model_config config;
        struct err err = {0};
        char text[16] = "";
        const int rc = read_case(&ROWS[i], &config, &err);
        if (rc == 0)
            layers_text(&config, text);
        if (rc != -(int)ROWS[i].code || !strstr(rc == 0 ? text : err.message, ROWS[i].says))
            fail_msg("row %zu, %s: got %d \"%s\" %s", i, ROWS[i].arch, rc, err.message, text);
    }
}

static void test_gguf_scales(void **state)
{
    (void)state;
    struct model_config c;
    struct err err = {0};
    const struct gguf_case gemma = {.arch = "gemma2",
                                    .keys = {{"final_logit_softcapping", 12, true}}};
    assert_ok(read_case(&gemma, &c, &err), &err);
    assert_true(c.embedding_scale == 8 && c.attention_cap == 50 && c.logit_cap == 12);
    assert_true(c.attention_scale == 0 && c.tied_embeddings);
    const struct gguf_case local = {
        .arch = "gemma3",
        .keys = {{"rope.freq_base", 5000, true}, {"rope.freq_base_swa", 70, true}}};
    assert_ok(read_case(&local, &c, &err), &err);
    assert_true(c.rope_theta == 5000 && c.rope_theta_local == 70);
    const struct gguf_case granite = {.arch = "granite",
                                      .keys = {{"attention.scale", 0.25, true},
                                               {"logit_scale", 4, true},
                                               {"residual_scale", 0.5, true}}};
    assert_ok(read_case(&granite, &c, &err), &err);
    assert_true(c.attention_scale == 0.25 && c.logit_scale == 0.25 && c.residual_scale == 0.5);
    const struct gguf_case stretched = {
        .arch = "phi3",
        .keys = {{"rope.scaling.original_context_length", 128, false},
                 {"rope.scaling.attn_factor", 1.25, true}},
        .long_factors = 8,
        .short_factors = 8};
    assert_ok(read_case(&stretched, &c, &err), &err);
    assert_true(c.rope_scaling.type == ROPE_SCALING_LONG &&
                c.rope_scaling.attention_factor == 1.25);
    assert_true(c.rope_long.long_factors[7] == 8.0f && c.rope_long.short_factors[0] == 9.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_families_fill_in_what_is_unsaid),
        cmocka_unit_test(test_a_text_model_inside_a_larger_one),
        cmocka_unit_test(test_what_is_not_served_is_named),
        cmocka_unit_test(test_gguf_metadata),
        cmocka_unit_test(test_gguf_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
