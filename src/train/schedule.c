#include "train/schedule.h"

#include "kernels/det_math.h"

double train_learning_rate(const struct train_config *config, const struct train_plan *plan,
                           int64_t step)
{
    const double rate = config->learning_rate;
    const int64_t warmup = plan->warmup_steps;
    if (step <= warmup) {
        return rate * (double)step / (double)warmup;
    }
    const double past = (double)(step - 1 - warmup), whole = (double)(plan->steps - warmup);
    switch (config->lr_schedule) {
    case TRAIN_LINEAR:
        return rate * (whole - past) / whole;
    case TRAIN_COSINE:
        return rate * (1.0 + det_cos(3.14159265358979323846 * past / whole)) / 2.0;
    case TRAIN_CONSTANT:
        break;
    }
    return rate;
}
