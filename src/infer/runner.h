/* The runner: a child process that holds one base model and answers frames on its control socket.
 *
 * Frames (base/frame.h) carry JSON except where noted; `r` is the request's number, chosen by the
 * hub. Hub → runner:
 *   'O' open    {path, threads, isa, context_length, kv_bytes, prefix_bytes, prefix_disk,
 *               base_key, max_sessions, cache_dir}
 *   'G' generate {r, prompt (text or tokens) | messages, tools, template, template_kwargs, date,
 *               adapter:{key,path,scale}, grammar, sampling:{…}, choice, score_prompt, embed,
 *               cold, sent:[token ids already delivered]}
 *   'C' cancel  {r}          'T' text op {r, op, …}         'Q' quit when idle
 *   'K' another ceiling of keys and values {kv_bytes}
 * Runner → hub:
 *   'o' opened  {info…}      'a' accepted {r, prompt_tokens, tool_format}
 *   't' token, 'p' token of the prompt: binary (token_frame.h)
 *   'v' vector: u32 r, u32 tokens of the prompt, floats
 *   'd' done    {r, finish_reason, …}      'j' text op result {r, …}
 *   'k' the ceiling that holds now {kv_bytes}
 *   'x' failed  {r (absent: the runner itself), code, message}
 * The runner's life: open once, then generate until the socket closes; it exits 0 on 'Q' or when
 * the hub is gone. One thread reads frames, one runs the model (scheduler.h).
 */
#ifndef INFER_RUNNER_H
#define INFER_RUNNER_H

#include "base/err.h"

/* The whole life of the process `mlx-hub runner`; returns its exit status. */
int runner_main(int control_fd);
#endif
