/* The statistics of watched attention in one pass over scores that lie in the processor's nearest memory: what `statistics.py`
   defines, for float32 on the CPU, several times faster than PyTorch's passes over each tile. `native.py` compiles and calls it.

   A head of a sequence is worked through in strips of queries. For each chunk of keys that a strip sees, the keys are laid
   out as the product likes them; then GROUP queries at a time get their scores against the chunk, and everything is read off
   these rows while they are near: the exponential and all sums in one loop, then the histogram, whose bins are runs of keys,
   and the strongest links. Sums over a chunk run in float32 in many lanes, sums over chunks and queries in float64.

   Plain C11 with the vectors that gcc and clang have. Nothing here is shared between threads but what is only read. */

#include "lanes.c"

enum {
    CHUNK = 768,          /* keys whose scores are near; a multiple of PANEL */
    STRIP = 1024,         /* queries that share the laying out of keys */
    FLUSH = 64,           /* queries whose received mass is added up in float32 */
};

/* One call of attention and where its statistics go. Fields and their order are those of `Given` in native.py; steps count
   numbers. A step of 0 means that all share. */
typedef struct {
    const float *q, *k, *lse;
    const int64_t *offsets, *key_offsets, *groups;
    const uint8_t *special;            /* or NULL */
    const float *const *bias;          /* of each sequence, or NULL */
    const int64_t *bias_steps;         /* head, query, key of each sequence */
    int64_t q_row, q_head, q_one, k_row, k_head, k_one, lse_row, lse_head;
    int64_t heads, width, left, right, links, bins;
    double scale, softcap;             /* softcap 0: none */
    float *entropy, *distance, *first, *on_special, *received;
    int32_t *keys;
    float *weights;
} Given;

/* What one thread needs besides. */
typedef struct {
    float *queries;                    /* [STRIP / GROUP, width, GROUP], scaled */
    float *keys;                       /* [CHUNK / PANEL, width, PANEL] */
    float *logs, *weights;             /* [GROUP, CHUNK] */
    float *received;                   /* [CHUNK] */
    double *sums;                      /* [STRIP, 3]: entropy, distance, special */
    int64_t special[CHUNK], specials;  /* places in the chunk */
} Room;

/* One head of one sequence. */
typedef struct {
    const Given *given;
    const float *q, *k, *lse, *bias;
    const int64_t *bias_steps;
    int64_t n, m, row, key, head;
    int altered; /* something happens to a score before its level is subtracted */
    double *received, *histogram;
} Item;

/* The keys, from and to, that one of the queries i to stop sees. */
static inline int64_t sees_from(const Item *item, int64_t i) {
    return most(0, i + item->m - item->n - item->given->left);
}
static inline int64_t sees_to(const Item *item, int64_t stop) {
    return least(item->m, stop + item->m - item->n + item->given->right);
}

/* Source: Cephes, tanhf: a polynomial near 0, where the other way would lose digits. */
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

/* lse of query i; so large where nothing is seen that every weight is 0. */
static inline float level_of(const Item *item, int64_t i) {
    float lse = item->lse[i * item->given->lse_row];
    return lse == -INFINITY ? -HIDDEN : lse;
}

/* Softcap and bias of query i in columns lo to hi of a chunk, where the product has left them out, and the level after them. */
static void alter(const Item *item, int64_t i, int64_t chunk, int64_t lo, int64_t hi, int64_t from, int64_t to, float *logs) {
    float cap = (float)item->given->softcap, level = level_of(item, i);
    for (int64_t j = lo; j < hi && cap > 0; j += LANES) *(lanes *)(logs + j) = tangent(*(lanes *)(logs + j) / cap) * cap;
    if (item->bias) {
        int64_t step = item->bias_steps[2];
        const float *bias = item->bias + i * item->bias_steps[1] + chunk * step;
        for (int64_t j = from; j < to; j++) logs[j] = bias[j * step] == -INFINITY ? -INFINITY : logs[j] + bias[j * step];
    }
    for (int64_t j = lo; j < hi; j += LANES) {
        lanes x = *(lanes *)(logs + j);
        *(lanes *)(logs + j) = chosen(x == -INFINITY, (lanes){0} + HIDDEN, larger((lanes){0} + HIDDEN, x - level));
    }
}

/* Makes a row of scores that is less by its level one of logarithms of weights: HIDDEN where query i does not see. */
static void finish(const Item *item, int64_t i, int64_t chunk, int64_t lo, int64_t hi, float *logs) {
    int64_t from = most(lo, sees_from(item, i) - chunk), to = least(hi, sees_to(item, i + 1) - chunk);
    if (item->altered) alter(item, i, chunk, lo, hi, from, to, logs);
    for (int64_t j = lo; j < least(from, hi); j++) logs[j] = HIDDEN;
    for (int64_t j = most(to, lo); j < hi; j++) logs[j] = HIDDEN;
}

/* The one loop: weights of a row from their logarithms, and what is summed of them. `away` is the distance of column lo. Gives
   the largest logarithm of each lane. */
static lanes weigh(const float *restrict logs, float *restrict weights, float *restrict received, int64_t lo, int64_t hi, float away, double *sums) {
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

/* Adds a row's weights to the bins of their distances, which are runs of columns; `away` is the distance of column lo. */
static void count(const float *weights, int64_t lo, int64_t hi, int64_t away, int64_t bins, double *histogram) {
    while (lo < hi) {
        int64_t size = llabs(away), bin = 0, edge = 1; /* bin b > 1 holds distances from edge / 2 + 1 to edge */
        for (; bin < bins && size > (bin ? edge : 0); bin++) edge = bin ? 2 * edge : 1;
        int64_t run = away == 0 ? 1 : away > 0 ? edge - away + 1 : size - edge / 2;
        if (away > 0 && bin == bins) run = hi - lo; /* the outermost has no end */
        run = least(run, hi - lo);
        histogram[away < 0 ? bins - bin : bins + bin] += sum_of(weights + lo, run);
        lo += run, away += run;
    }
}

/* Keeps the strongest, in order; `largest` is each lane's largest. Only the lanes with the most can hold one of them, and only
   what is no less than the least of these: as many others are at least as large. Nothing here branches on a score where that
   can be helped: the processor could not foresee it. */
static void link(const float *logs, int64_t lo, int64_t hi, int64_t chunk, lanes largest, int64_t links, float *values, int32_t *keys) {
    whole fresh = largest > values[links - 1];
    int news = 0, where[LANES], found[CHUNK / LANES];
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
        for (int64_t j = lo + where[i]; j < hi; j += LANES) found[many] = (int)j, many += logs[j] >= bound;
        for (int f = 0; f < many; f++) {
            float x = logs[found[f]];
            int32_t key = (int32_t)(chunk + found[f]);
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

/* All that GROUP queries from i on give to a chunk of keys. */
static void tile(const Item *item, Room *room, int64_t i, int64_t stop, int64_t first, int64_t chunk) {
    const Given *g = item->given;
    int64_t behind = item->m - item->n;
    int64_t lo = most(sees_from(item, i) - chunk, 0) / PANEL * PANEL, hi = least(sees_to(item, stop) - chunk, CHUNK);
    if (lo >= hi) return;
    hi = (hi + PANEL - 1) / PANEL * PANEL;
    float level[GROUP] = {0};
    for (int64_t r = i; r < stop && !item->altered; r++) level[r - i] = level_of(item, r);
    for (int64_t j = lo; j < hi; j += PANEL)
        product(room->queries + (i - first) * g->width, room->keys + j * g->width, g->width, level, room->logs + j, CHUNK);
    for (int64_t r = i; r < stop; r++) {
        float *logs = room->logs + (r - i) * CHUNK, *weights = room->weights;
        double *sums = room->sums + 3 * (r - first);
        int64_t away = chunk + lo - r - behind, place = (item->row + r) * g->heads + item->head;
        finish(item, r, chunk, lo, hi, logs);
        lanes largest = weigh(logs, weights, room->received, lo, hi, (float)away, sums);
        count(weights, lo, hi, away, g->bins, item->histogram);
        if (chunk + lo == 0) g->first[place] = weights[0];
        for (int64_t j = 0; j < room->specials; j++)
            if (room->special[j] >= lo && room->special[j] < hi) sums[2] += weights[room->special[j]];
        if (g->links) link(logs, lo, hi, chunk, largest, g->links, g->weights + place * g->links, g->keys + place * g->links);
    }
}

/* Adds what was received of late to what was received, and begins anew. */
static void flush(const Item *item, Room *room, int64_t chunk) {
    for (int64_t j = 0; j < least(CHUNK, item->m - chunk); j++) item->received[chunk + j] += room->received[j];
    memset(room->received, 0, CHUNK * sizeof(float));
}

/* Queries i to stop, at most STRIP, against all keys. */
static void strip(const Item *item, Room *room, int64_t i, int64_t stop) {
    const Given *g = item->given;
    int64_t lo = sees_from(item, i), hi = sees_to(item, stop);
    lay_out(item->q + i * g->q_row, g->q_row, g->q_one, stop - i, g->width, GROUP, (float)g->scale, room->queries);
    memset(room->sums, 0, 3 * (stop - i) * sizeof(double));
    for (int64_t r = i; r < stop; r++)
        for (int64_t l = 0; l < g->links; l++) {
            int64_t at = ((item->row + r) * g->heads + item->head) * g->links + l;
            g->weights[at] = HIDDEN / 2, g->keys[at] = -1;
        }
    for (int64_t chunk = lo / CHUNK * CHUNK; chunk < hi; chunk += CHUNK) {
        int64_t from = most(lo - chunk, 0) / PANEL * PANEL, to = least(hi - chunk, CHUNK);
        lay_out(item->k + (chunk + from) * g->k_row, g->k_row, g->k_one, to - from, g->width, PANEL, 1, room->keys + from * g->width);
        room->specials = 0;
        for (int64_t j = from; j < to && g->special; j++)
            if (g->special[item->key + chunk + j]) room->special[room->specials++] = j;
        for (int64_t r = i; r < stop; r += FLUSH) {
            for (int64_t s = r; s < least(r + FLUSH, stop); s += GROUP) tile(item, room, s, least(s + GROUP, stop), i, chunk);
            flush(item, room, chunk);
        }
    }
    for (int64_t r = i; r < stop; r++) {
        int64_t place = (item->row + r) * g->heads + item->head;
        const double *sums = room->sums + 3 * (r - i);
        g->entropy[place] = (float)sums[0], g->distance[place] = (float)sums[1], g->on_special[place] = (float)sums[2];
        for (int64_t l = 0; l < g->links; l++) {
            float *weight = g->weights + place * g->links + l;
            *weight = *weight > HIDDEN / 2 ? expf(*weight) : 0;
        }
    }
}

/* This part's strips of one item, dealt out there and back, since later queries may see more. */
static void head(const Item *item, Room *room, int64_t part, int64_t parts) {
    int64_t rows = STRIP;
    while (rows > 64 && rows * 4 * parts > item->n && parts > 1) rows /= 2;
    for (int64_t i = 0, turn = 0; i < item->n; i += rows, turn = (turn + 1) % (2 * parts))
        if ((turn < parts ? turn : 2 * parts - 1 - turn) == part) strip(item, room, i, least(i + rows, item->n));
}

/* Items `from` to `to`, where item i is head i % heads of sequence sequences[i / heads]; of each, the queries that fall to this
   part. `received` [keys of the longest sequence] holds, if there are more parts, what this part's queries give; else it is
   room. `histogram` [heads, 2 bins + 1] is added to. Gives 0, or 1 where there is no memory. */
int sightline_statistics(const Given *g, const int64_t *sequences, int64_t from, int64_t to, int64_t part, int64_t parts, double *received, double *histogram) {
    Room *room = calloc(1, sizeof(Room));
    if (!room) return 1;
    room->queries = aligned(STRIP * g->width * sizeof(float));
    room->keys = aligned(CHUNK * g->width * sizeof(float));
    room->logs = aligned(GROUP * CHUNK * sizeof(float));
    room->weights = aligned(CHUNK * sizeof(float));
    room->received = aligned(CHUNK * sizeof(float));
    room->sums = aligned(3 * STRIP * sizeof(double));
    int failed = !(room->queries && room->keys && room->logs && room->weights && room->received && room->sums);
    if (!failed) memset(room->received, 0, CHUNK * sizeof(float));
    for (int64_t i = from; i < to && !failed; i++) {
        int64_t s = sequences[i / g->heads], h = i % g->heads;
        Item item = {.given = g, .row = g->offsets[s], .key = g->key_offsets[s], .head = h, .received = received};
        item.n = g->offsets[s + 1] - item.row, item.m = g->key_offsets[s + 1] - item.key;
        item.q = g->q + item.row * g->q_row + h * g->q_head;
        item.k = g->k + item.key * g->k_row + g->groups[h] * g->k_head;
        item.lse = g->lse + item.row * g->lse_row + h * g->lse_head;
        item.bias_steps = g->bias ? g->bias_steps + 3 * s : NULL;
        item.bias = g->bias ? g->bias[s] + h * item.bias_steps[0] : NULL;
        item.altered = g->softcap > 0 || g->bias;
        item.histogram = histogram + h * (2 * g->bins + 1);
        memset(received, 0, item.m * sizeof(double));
        head(&item, room, part, parts);
        for (int64_t j = 0; j < item.m && parts == 1; j++)
            g->received[(item.key + j) * g->heads + h] = (float)received[j];
    }
    free(room->queries), free(room->keys), free(room->logs), free(room->weights), free(room->received), free(room->sums);
    free(room);
    return failed;
}
