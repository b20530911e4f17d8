/* Statistics of watched attention in one pass over scores in the processor's nearest memory: what observe/statistics.py
   defines, for float32 on the CPU, several times faster than PyTorch's passes over each tile. `statistics.py` calls it.

   A head of a sequence is computed in strips of queries. For each chunk of keys that a strip sees, `lay_out` arranges
   the keys for `product`; then GROUP queries at a time get their scores against the chunk, and these rows are read
   while they are near: exponential and all sums in one loop, then the histogram, whose bins are runs of keys, and the
   strongest links. Sums over a chunk are float32 in many lanes, sums over chunks and queries float64.

   C11 with the vectors of gcc and clang. Threads share only what they do not write. */

#include "lanes.c"

enum {
    CHUNK = 768,          /* keys whose scores are near; a multiple of PANEL */
    STRIP = 1024,         /* queries that share one arrangement of the keys */
    FLUSH = 64,           /* queries whose received mass is summed in float32 */
};

/* One call of attention and its statistics. Fields and order are those of `Call` in statistics.py; steps count numbers.
   A step of 0 means that all share. */
typedef struct {
    const float *q, *k, *lse;
    const int64_t *offsets, *key_offsets, *groups;
    const uint8_t *special;            /* or NULL */
    const float *const *bias;          /* of each sequence, or NULL */
    const int64_t *bias_steps;         /* head, query, key of each sequence */
    float *entropy, *distance, *first, *on_special, *received;
    int32_t *keys;
    float *weights;
    int64_t heads, width, left, right, links, bins;
    int64_t q_row, q_head, q_one, k_row, k_head, k_one, lse_row, lse_head;
    double scale, softcap;             /* softcap 0: none */
} Call;

/* Memory of one thread. */
typedef struct {
    float *queries;                    /* [STRIP / GROUP, width, GROUP], scaled */
    float *keys;                       /* [CHUNK / PANEL, width, PANEL] */
    float *logs, *weights;             /* [GROUP, CHUNK] */
    float *received;                   /* [CHUNK] */
    double *sums;                      /* [STRIP, 3]: entropy, distance, special */
    int64_t special[CHUNK], specials;  /* places in the chunk */
} Scratch;

/* One head of one sequence. */
typedef struct {
    const Call *call;
    const float *q, *k, *lse, *bias;
    const int64_t *bias_steps;
    int64_t n, m, row, key, head;
    int altered; /* by a softcap or bias, before the level is subtracted */
    double *received, *histogram;
} Item;

/* The keys, from and to, that one of the queries i to stop sees. */
static inline int64_t sees_from(const Item *item, int64_t i) {
    return most(0, i + item->m - item->n - item->call->left);
}
static inline int64_t sees_to(const Item *item, int64_t stop) {
    return least(item->m, stop + item->m - item->n + item->call->right);
}

/* Source: Cephes, tanhf: a polynomial near 0, where 1 - 2 / (e^2x + 1) loses digits. */
static inline lanes tangent(lanes x) {
    lanes z = x * x;
    lanes p = z * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    lanes size = (lanes)((whole)x & 0x7fffffff);
    lanes far = 1.0f - 2.0f / (exponential(size + size) + 1.0f);
    far = chosen(x < 0.0f, -far, far);
    return chosen(size > 0.625f, far, p * z * x + x);
}

/* lse of query i; where it sees nothing, so large that every weight is 0. */
static inline float level_of(const Item *item, int64_t i) {
    float lse = item->lse[i * item->call->lse_row];
    return lse == -INFINITY ? -HIDDEN : lse;
}

/* Applies softcap and bias of query i in columns lo to hi of a chunk, then subtracts the level. */
static void alter(const Item *item, int64_t i, int64_t chunk, int64_t lo, int64_t hi, int64_t from, int64_t to,
                  float *logs) {
    float cap = (float)item->call->softcap, level = level_of(item, i);
    for (int64_t j = lo; j < hi && cap > 0; j += LANES)
        *(lanes *)(logs + j) = tangent(*(lanes *)(logs + j) / cap) * cap;
    if (item->bias) {
        int64_t step = item->bias_steps[2];
        const float *bias = item->bias + i * item->bias_steps[1] + chunk * step;
        for (int64_t j = from; j < to; j++)
            logs[j] = bias[j * step] == -INFINITY ? -INFINITY : logs[j] + bias[j * step];
    }
    for (int64_t j = lo; j < hi; j += LANES) {
        lanes x = *(lanes *)(logs + j);
        *(lanes *)(logs + j) = chosen(x == -INFINITY, (lanes){0} + HIDDEN, larger((lanes){0} + HIDDEN, x - level));
    }
}

/* Turns a row of scores less their level into logarithms of weights: HIDDEN where query i does not see. */
static void finish(const Item *item, int64_t i, int64_t chunk, int64_t lo, int64_t hi, float *logs) {
    int64_t from = most(lo, sees_from(item, i) - chunk), to = least(hi, sees_to(item, i + 1) - chunk);
    if (item->altered) alter(item, i, chunk, lo, hi, from, to, logs);
    for (int64_t j = lo; j < least(from, hi); j++) logs[j] = HIDDEN;
    for (int64_t j = most(to, lo); j < hi; j++) logs[j] = HIDDEN;
}

/* The one loop: weights of a row from their logarithms, and their sums. `away` is the distance of column lo. Returns
   the largest logarithm of each lane. */
static lanes weigh(const float *restrict logs, float *restrict weights, float *restrict received, int64_t lo,
                   int64_t hi, float away, double *sums) {
    lanes entropy = {0}, distance = {0}, largest = (lanes){0} - INFINITY, far;
    for (int i = 0; i < LANES; i++) far[i] = away + (float)i;
    for (int64_t j = lo; j < hi; j += LANES) {
        lanes x = *(const lanes *)(logs + j), w = exponential(x);
        *(lanes *)(weights + j) = w;
        *(lanes *)(received + j) += w;
        entropy -= w * x;
        distance += w * (lanes)((whole)far & 0x7fffffff);
        largest = larger(x, largest);
        far += (float)LANES;
    }
    sums[0] += total(entropy), sums[1] += total(distance);
    return largest;
}

static float sum_of(const float *t, int64_t count) {
    lanes a = {0}, b = {0};
    int64_t j = 0;
    for (; j + 2 * LANES <= count; j += 2 * LANES) a += *(const loose *)(t + j), b += *(const loose *)(t + j + LANES);
    float sum = total(a + b);
    for (; j < count; j++) sum += t[j];
    return sum;
}

/* Adds a row's weights to the bins of their distances, runs of columns; `away` is the distance of column lo. */
static void count(const float *weights, int64_t lo, int64_t hi, int64_t away, int64_t bins, double *histogram) {
    while (lo < hi) {
        int64_t size = llabs(away), bin = 0, edge = 1; /* bin b > 1 holds distances from edge / 2 + 1 to edge */
        for (; bin < bins && size > (bin ? edge : 0); bin++) edge = bin ? 2 * edge : 1;
        int64_t run = away == 0 ? 1 : away > 0 ? edge - away + 1 : size - edge / 2;
        if (away > 0 && bin == bins) run = hi - lo; /* the outermost bin has no end */
        run = least(run, hi - lo);
        histogram[away < 0 ? bins - bin : bins + bin] += sum_of(weights + lo, run);
        lo += run, away += run;
    }
}

/* Keeps the strongest links in order; `largest` is the maximum of each lane. Only the lanes with the largest maxima can
   hold one, and only values no less than the least of these maxima. Few branches depend on a score: they are
   mispredicted. */
static void link(const float *logs, int64_t lo, int64_t hi, int64_t chunk, lanes largest, int64_t links, float *values,
                 int32_t *keys) {
    whole fresh = largest > values[links - 1];
    int news = 0, where[LANES], matches[CHUNK / LANES];
    for (int i = 0; i < LANES; i++) where[news] = i, news -= fresh[i];
    if (news == 0) return;
    float bound = values[links - 1];
    if (news > links) {
        whole before = {0};
        for (int i = 0; i < LANES; i++) before -= largest < largest[i];
        fresh &= before < (int32_t)links;
        lanes among = chosen(fresh, largest, (lanes){0} + INFINITY);
        bound = among[0], news = 0;
        for (int i = 0; i < LANES; i++) {
            bound = among[i] < bound ? among[i] : bound;
            where[news] = i, news -= fresh[i];
        }
    }
    for (int i = 0; i < news; i++) {
        int many = 0;
        for (int64_t j = lo + where[i]; j < hi; j += LANES) matches[many] = (int)j, many += logs[j] >= bound;
        for (int f = 0; f < many; f++) {
            float x = logs[matches[f]];
            int32_t key = (int32_t)(chunk + matches[f]);
            for (int64_t l = 0; l < links; l++) {
                float value = values[l];
                int32_t other = keys[l];
                int better = x > value;
                values[l] = better ? x : value, keys[l] = better ? key : other;
                x = better ? value : x, key = better ? other : key;
            }
        }
    }
}

/* GROUP queries from i on against a chunk of keys. */
static void tile(const Item *item, Scratch *scratch, int64_t i, int64_t stop, int64_t first, int64_t chunk) {
    const Call *c = item->call;
    int64_t behind = item->m - item->n;
    int64_t lo = most(sees_from(item, i) - chunk, 0) / PANEL * PANEL, hi = least(sees_to(item, stop) - chunk, CHUNK);
    if (lo >= hi) return;
    hi = (hi + PANEL - 1) / PANEL * PANEL;
    float level[GROUP] = {0};
    for (int64_t r = i; r < stop && !item->altered; r++) level[r - i] = level_of(item, r);
    for (int64_t j = lo; j < hi; j += PANEL)
        product(scratch->queries + (i - first) * c->width, scratch->keys + j * c->width, c->width, level,
                scratch->logs + j, CHUNK);
    for (int64_t r = i; r < stop; r++) {
        float *logs = scratch->logs + (r - i) * CHUNK, *weights = scratch->weights;
        double *sums = scratch->sums + 3 * (r - first);
        int64_t away = chunk + lo - r - behind, place = (item->row + r) * c->heads + item->head;
        finish(item, r, chunk, lo, hi, logs);
        lanes largest = weigh(logs, weights, scratch->received, lo, hi, (float)away, sums);
        count(weights, lo, hi, away, c->bins, item->histogram);
        if (chunk + lo == 0) c->first[place] = weights[0];
        for (int64_t j = 0; j < scratch->specials; j++)
            if (scratch->special[j] >= lo && scratch->special[j] < hi) sums[2] += weights[scratch->special[j]];
        float *values = c->weights + place * c->links;
        if (c->links) link(logs, lo, hi, chunk, largest, c->links, values, c->keys + place * c->links);
    }
}

/* Adds the float32 sums of the mass received to the float64 ones, and clears them. */
static void flush(const Item *item, Scratch *scratch, int64_t chunk) {
    for (int64_t j = 0; j < least(CHUNK, item->m - chunk); j++) item->received[chunk + j] += scratch->received[j];
    memset(scratch->received, 0, CHUNK * sizeof(float));
}

/* Queries i to stop, at most STRIP, against all keys. */
static void strip(const Item *item, Scratch *scratch, int64_t i, int64_t stop) {
    const Call *c = item->call;
    int64_t lo = sees_from(item, i), hi = sees_to(item, stop);
    lay_out(item->q + i * c->q_row, c->q_row, c->q_one, stop - i, c->width, GROUP, (float)c->scale, scratch->queries);
    memset(scratch->sums, 0, 3 * (stop - i) * sizeof(double));
    for (int64_t r = i; r < stop; r++)
        for (int64_t l = 0; l < c->links; l++) {
            int64_t at = ((item->row + r) * c->heads + item->head) * c->links + l;
            c->weights[at] = HIDDEN / 2, c->keys[at] = -1;
        }
    for (int64_t chunk = lo / CHUNK * CHUNK; chunk < hi; chunk += CHUNK) {
        int64_t from = most(lo - chunk, 0) / PANEL * PANEL, to = least(hi - chunk, CHUNK);
        lay_out(item->k + (chunk + from) * c->k_row, c->k_row, c->k_one, to - from, c->width, PANEL, 1,
                scratch->keys + from * c->width);
        scratch->specials = 0;
        for (int64_t j = from; j < to && c->special; j++)
            if (c->special[item->key + chunk + j]) scratch->special[scratch->specials++] = j;
        for (int64_t r = i; r < stop; r += FLUSH) {
            for (int64_t s = r; s < least(r + FLUSH, stop); s += GROUP)
                tile(item, scratch, s, least(s + GROUP, stop), i, chunk);
            flush(item, scratch, chunk);
        }
    }
    for (int64_t r = i; r < stop; r++) {
        int64_t place = (item->row + r) * c->heads + item->head;
        const double *sums = scratch->sums + 3 * (r - i);
        c->entropy[place] = (float)sums[0], c->distance[place] = (float)sums[1], c->on_special[place] = (float)sums[2];
        for (int64_t l = 0; l < c->links; l++) {
            float *weight = c->weights + place * c->links + l;
            *weight = *weight > HIDDEN / 2 ? expf(*weight) : 0;
        }
    }
}

/* This part's strips of one item, assigned back and forth, since later queries may see more. */
static void head(const Item *item, Scratch *scratch, int64_t part, int64_t parts) {
    int64_t rows = STRIP;
    while (rows > 64 && rows * 4 * parts > item->n && parts > 1) rows /= 2;
    for (int64_t i = 0, turn = 0; i < item->n; i += rows, turn = (turn + 1) % (2 * parts))
        if ((turn < parts ? turn : 2 * parts - 1 - turn) == part) strip(item, scratch, i, least(i + rows, item->n));
}

/* Items `from` to `to`, where item i is head i % heads of sequence sequences[i / heads]; of each, the queries of this
   part. `received` [keys of the longest sequence] returns this part's share if there are more parts; else it is scratch
   memory. Adds to `histogram` [heads, 2 bins + 1]. Returns 0, or 1 where there is no memory. */
int sightline_statistics(const Call *c, const int64_t *sequences, int64_t from, int64_t to, int64_t part, int64_t parts,
                         double *received, double *histogram) {
    Scratch *scratch = calloc(1, sizeof(Scratch));
    if (!scratch) return 1;
    scratch->queries = aligned(STRIP * c->width * sizeof(float));
    scratch->keys = aligned(CHUNK * c->width * sizeof(float));
    scratch->logs = aligned(GROUP * CHUNK * sizeof(float));
    scratch->weights = aligned(CHUNK * sizeof(float));
    scratch->received = aligned(CHUNK * sizeof(float));
    scratch->sums = aligned(3 * STRIP * sizeof(double));
    void *all[] = {scratch->queries, scratch->keys, scratch->logs, scratch->weights, scratch->received, scratch->sums};
    int failed = 0;
    for (int i = 0; i < 6; i++) failed |= !all[i];
    if (!failed) memset(scratch->received, 0, CHUNK * sizeof(float));
    for (int64_t i = from; i < to && !failed; i++) {
        int64_t s = sequences[i / c->heads], h = i % c->heads;
        Item item = {.call = c, .row = c->offsets[s], .key = c->key_offsets[s], .head = h, .received = received};
        item.n = c->offsets[s + 1] - item.row, item.m = c->key_offsets[s + 1] - item.key;
        item.q = c->q + item.row * c->q_row + h * c->q_head;
        item.k = c->k + item.key * c->k_row + c->groups[h] * c->k_head;
        item.lse = c->lse + item.row * c->lse_row + h * c->lse_head;
        item.bias_steps = c->bias ? c->bias_steps + 3 * s : NULL;
        item.bias = c->bias ? c->bias[s] + h * item.bias_steps[0] : NULL;
        item.altered = c->softcap > 0 || c->bias;
        item.histogram = histogram + h * (2 * c->bins + 1);
        memset(received, 0, item.m * sizeof(double));
        head(&item, scratch, part, parts);
        for (int64_t j = 0; j < item.m && parts == 1; j++)
            c->received[(item.key + j) * c->heads + h] = (float)received[j];
    }
    for (int i = 0; i < 6; i++) free(all[i]);
    free(scratch);
    return failed;
}
