/* Attention over packed float32 rows, forward and backward: every head of every sequence by itself, read where it lies.

   PANEL queries of a head at a time meet all keys that one of them sees. Scores, and the weights that they become,
   hold the queries side by side in the lanes of a vector and the keys below each other: the largest score and the sum
   of a query then need no sum over lanes, however few keys there are. Everything else is one product (`add_product`)
   of numbers that are read one by one with rows that are read in place. Backward computes the weights from lse.

   A task is one sequence and the heads of it that share their keys. Whichever thread is free takes the next; one
   thread computes each task, so the result does not depend on the threads. They are PyTorch's own OpenMP threads.
   Source: Dao et al. 2022, algorithms 1 and 4, with one block of keys. */

#include "lanes.c"

/* One call. Fields and their order are those of `Call` in attention.py; strides count numbers.
   `out` and all tensors after it are contiguous. */
typedef struct {
    const float *q, *k, *v, *grad;
    const int64_t *offsets, *key_offsets;
    int64_t q_row, q_head, q_one, k_row, k_head, k_one, v_row, v_head, v_one, grad_row, grad_head, grad_one;
    int64_t sequences, heads, groups, width, value_width, left, right, longest, grain, backward;
    double scale;
    float *out, *lse;                           /* backward reads lse */
    const float *grad_lse;                      /* or NULL */
    float *grad_q, *grad_k, *grad_v;            /* backward writes them */
    int64_t next, failed, inexact;              /* shared by the threads */
} Call;

/* If the weights of a query sum to 1 + e, with e * e above this, they are divided by their sum. */
static const float ROUNDED = 1e-10f;

typedef struct {
    const float *at;
    int64_t row;
} Rows; /* rows of as many numbers as fill whole vectors */

/* Scratch memory of one thread. */
typedef struct {
    float *across, *grad_across;                /* [width, PANEL]: the queries, and the gradient of out, side by side */
    float *weights, *grads;                     /* [keys, PANEL] */
    float *q, *grad, *product;                    /* [PANEL, width]: rows of whole vectors */
    float *k, *v, *grad_k, *grad_v;             /* [keys, width] */
} Scratch;

static inline int64_t round_up(int64_t width) { return (width + LANES - 1) / LANES * LANES; }

static inline lanes load(const float *from, int64_t one, int64_t count) {
    if (one == 1 && count >= LANES) return *(const loose *)from;
    lanes x = {0};
    for (int64_t i = 0; i < least(count, LANES); i++) x[i] = from[i * one];
    return x;
}

/* c (+)= a b for up to GROUP rows of c and `wide` vectors of each: a by rows and by numbers, b in whole vectors. */
static inline __attribute__((always_inline)) void block(const float *a, int64_t row, int64_t one, const float *b,
    int64_t pitch, int64_t depth, float *c, int64_t into, int64_t rows, const int group, const int wide,
    const int add) {
    lanes sum[GROUP][WIDE];
    const float *start[GROUP];
    for (int r = 0; r < group; r++) start[r] = a + least(r, rows - 1) * row;
    for (int r = 0; r < group; r++)
        for (int v = 0; v < wide; v++) sum[r][v] = (lanes){0};
    for (int64_t d = 0; d < depth; d++, b += pitch)
        for (int r = 0; r < group; r++)
            for (int v = 0; v < wide; v++) sum[r][v] += start[r][d * one] * ((const loose *)b)[v];
    for (int r = 0; r < group && r < rows; r++)
        for (int v = 0; v < wide; v++) {
            loose *to = (loose *)(c + r * into) + v;
            if (add) *to += sum[r][v];
            else *to = sum[r][v];
        }
}

static inline __attribute__((always_inline)) void rows_of_product(const float *a, int64_t row, int64_t one,
    const float *b, int64_t pitch, int64_t depth, float *c, int64_t into, int64_t rows, const int wide, const int add) {
    int64_t r = 0;
    for (; r + GROUP / 2 < rows; r += GROUP)
        block(a + r * row, row, one, b, pitch, depth, c + r * into, into, rows - r, GROUP, wide, add);
    if (r < rows) block(a + r * row, row, one, b, pitch, depth, c + r * into, into, rows - r, GROUP / 2, wide, add);
}

/* c (+)= a b: `rows` rows and `vectors` vectors of c, `depth` numbers in each row of a and as many rows of b. */
static inline __attribute__((always_inline)) void product_of(const float *a, int64_t row, int64_t one, const float *b,
    int64_t pitch, int64_t depth, float *c, int64_t into, int64_t rows, int64_t vectors, const int add) {
    for (int64_t v = 0; v < vectors; v += WIDE, b += PANEL, c += PANEL) {
        int64_t wide = least(WIDE, vectors - v);
        if (wide == 1) rows_of_product(a, row, one, b, pitch, depth, c, into, rows, 1, add);
        else if (wide == 2) rows_of_product(a, row, one, b, pitch, depth, c, into, rows, 2, add);
        else rows_of_product(a, row, one, b, pitch, depth, c, into, rows, WIDE, add);
    }
}
static __attribute__((noinline)) void set_product(const float *a, int64_t row, int64_t one, const float *b,
    int64_t pitch, int64_t depth, float *c, int64_t into, int64_t rows, int64_t vectors) {
    product_of(a, row, one, b, pitch, depth, c, into, rows, vectors, 0);
}
static __attribute__((noinline)) void add_product(const float *a, int64_t row, int64_t one, const float *b,
    int64_t pitch, int64_t depth, float *c, int64_t into, int64_t rows, int64_t vectors) {
    product_of(a, row, one, b, pitch, depth, c, into, rows, vectors, 1);
}

/* Numbers chosen from a and b by their place, b's counted from LANES on. */
static inline lanes picked(lanes a, lanes b, whole places) {
#if defined(__clang__)
    lanes x;
    for (int i = 0; i < LANES; i++) x[i] = places[i] < LANES ? a[places[i] % LANES] : b[places[i] % LANES];
    return x;
#else
    return __builtin_shuffle(a, b, places);
#endif
}

static const int32_t PLACES[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* Rows of LANES numbers become columns. */
static inline void transpose_lanes(lanes *x) {
    for (int step = LANES / 2; step; step /= 2) {
        whole place, low;
        memcpy(&place, PLACES, sizeof place);
        low = place + (((place & step) != 0) & (LANES - step));
        for (int i = 0; i < LANES; i++) {
            if (i & step) continue;
            lanes a = x[i], b = x[i + step];
            x[i] = picked(a, b, low), x[i + step] = picked(a, b, low + step);
        }
    }
}

/* Transposes some rows: into [width, PANEL], zeros beyond the last. */
static void transpose(const float *from, int64_t row, int64_t one, int64_t rows, int64_t width, float scale,
    float *into) {
    for (int64_t r = 0; r < rows; r += LANES)
        for (int64_t d = 0; d < width; d += LANES) {
            lanes x[LANES];
            for (int i = 0; i < LANES; i++)
                x[i] = load(from + (r + i) * row + d * one, one, r + i < rows ? width - d : 0) * scale;
            transpose_lanes(x);
            for (int i = 0; i < LANES && d + i < width; i++) *(lanes *)(into + (d + i) * PANEL + r) = x[i];
        }
}

/* Rows of whole vectors: the rows themselves, or a copy with zeros at the end of each. */
static Rows whole_rows(const float *from, int64_t row, int64_t one, int64_t rows, int64_t width, float *scratch) {
    if (one == 1 && width % LANES == 0) return (Rows){from, row};
    int64_t pitch = round_up(width);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t d = 0; d < width; d += LANES)
            *(lanes *)(scratch + r * pitch + d) = load(from + r * row + d * one, one, width - d);
    return (Rows){scratch, pitch};
}

/* A result is not finite where it should be: attention/exact.py computes its sequence again. */
static void inexact(Call *g) { __atomic_store_n(&g->inexact, 1, __ATOMIC_RELAXED); }

/* Copies a row of whole vectors, scaled, to its place in a result; marks the call where a number is not finite. */
static inline void write_row(Call *g, const float *from, int64_t width, float scale, float *to) {
    int64_t d = 0;
    lanes nothing = {0};
    float rest = 0;
    for (; d + LANES <= width; d += LANES) {
        lanes x = *(const lanes *)(from + d) * scale;
        *(loose *)(to + d) = x, nothing += x * 0.0f;
    }
    for (; d < width; d++) to[d] = from[d] * scale, rest += to[d] * 0.0f;
    if (total(nothing) + rest != 0) inexact(g); /* 0 times what is not finite is NaN */
}

/* One head of one sequence: n queries from row `row` on, m keys from row `key` on. */
typedef struct {
    int64_t row, key, n, m, head, group;
    const float *q, *k, *v, *grad;
} Item;

/* Queries `first` to first + count, and the keys from `lo` to `hi` that one of them sees. */
typedef struct {
    int64_t first, count, vectors, lo, hi;
} Strip;

static Strip strip_of(const Call *g, const Item *item, int64_t first) {
    int64_t behind = item->m - item->n, count = least(PANEL, item->n - first);
    Strip s = {first, count, (count + LANES - 1) / LANES, most(0, first + behind - g->left), 
        least(item->m, first + count + behind + g->right)};
    s.hi = most(s.lo, s.hi);
    return s;
}

/* Whether a query sees a key. */
static inline int sees(const Call *g, const Item *item, int64_t i) {
    int64_t place = i + item->m - item->n;
    return most(0, place - g->left) < least(item->m, place + g->right + 1);
}

/* The scores [keys, PANEL] of a strip: -inf where a query does not see. */
static void score(const Call *g, const Item *item, const Strip *s, Scratch *scratch) {
    transpose(item->q + s->first * g->q_row, g->q_row, g->q_one, s->count, g->width, (float)g->scale, scratch->across);
    set_product(item->k + s->lo * g->k_row, g->k_row, g->k_one, scratch->across, PANEL, g->width, scratch->weights,
        PANEL,
        s->hi - s->lo, s->vectors);
    int64_t behind = item->m - item->n;
    for (int64_t j = s->lo; j < s->hi; j++) { /* which queries of the strip see key j */
        int64_t from = j - behind - g->right - s->first, to = j - behind + g->left - s->first;
        if (from <= 0 && to >= s->count - 1) continue;
        float *row = scratch->weights + (j - s->lo) * PANEL;
        for (int64_t i = 0; i < s->vectors * LANES; i++) row[i] = i < from || i > to ? -INFINITY : row[i];
    }
}

/* Out and lse of a strip. Source: equation 1 of Vaswani et al. 2017. */
static void strip_forward(Call *g, const Item *item, const Strip *s, Rows v, Scratch *scratch) {
    score(g, item, s, scratch);
    int64_t keys = s->hi - s->lo, pitch = round_up(g->value_width);
    float sums[PANEL], levels[PANEL];
    for (int64_t w = 0; w < s->vectors; w++) {
        float *at = scratch->weights + w * LANES;
        lanes largest = (lanes){0} - INFINITY, sum = {0};
        for (int64_t j = 0; j < keys; j++) largest = larger(*(lanes *)(at + j * PANEL), largest);
        largest = chosen(largest > -INFINITY, largest, (lanes){0});
        for (int64_t j = 0; j < keys; j++) {
            lanes weight = exponential(*(lanes *)(at + j * PANEL) - largest);
            *(lanes *)(at + j * PANEL) = weight, sum += weight;
        }
        memcpy(sums + w * LANES, &sum, sizeof sum), memcpy(levels + w * LANES, &largest, sizeof sum);
    }
    set_product(scratch->weights, 1, PANEL, v.at + s->lo * v.row, v.row, keys, scratch->product, pitch, s->count,
        pitch / LANES);
    for (int64_t i = 0; i < s->count; i++) {
        int64_t place = (item->row + s->first + i) * g->heads + item->head;
        float lse = g->lse[place] = levels[i] + logf(sums[i]); /* -inf where nothing is seen */
        if (!(lse < INFINITY) || (lse == -INFINITY && sees(g, item, s->first + i))) inexact(g);
        write_row(g, scratch->product + i * pitch, g->value_width, sums[i] == 0 ? 0 : 1 / sums[i],
            g->out + place * g->value_width);
    }
}

/* What a strip adds to the gradients: with w the weights, dw_ij = grad_i . v_j and ds = w (dw - sum_j w dw + grad_lse).
   Weights computed from a rounded lse do not sum to one where scores are large: dividing by their sum makes them
   weights, and the sum over them a mean. */
static void strip_backward(Call *g, const Item *item, const Strip *s, Rows k, Scratch *scratch) {
    score(g, item, s, scratch);
    int64_t keys = s->hi - s->lo, k_pitch = round_up(g->width), v_pitch = round_up(g->value_width);
    const float *grad = item->grad + s->first * g->grad_row, *q = item->q + s->first * g->q_row;
    transpose(grad, g->grad_row, g->grad_one, s->count, g->value_width, 1, scratch->grad_across);
    set_product(item->v + s->lo * g->v_row, g->v_row, g->v_one, scratch->grad_across, PANEL, g->value_width,
        scratch->grads,
        PANEL, keys, s->vectors);
    for (int64_t w = 0; w < s->vectors; w++) {
        float *weights = scratch->weights + w * LANES, *grads = scratch->grads + w * LANES;
        lanes level = (lanes){0} - HIDDEN, more = {0}, sum = {0}, mean = {0};
        for (int64_t i = 0; i < least(LANES, s->count - w * LANES); i++) {
            int64_t place = (item->row + s->first + w * LANES + i) * g->heads + item->head;
            level[i] = g->lse[place] == -INFINITY ? -HIDDEN : g->lse[place];
            more[i] = g->grad_lse ? g->grad_lse[place] : 0;
        }
        for (int64_t j = 0; j < keys; j++) {
            lanes weight = exponential(*(lanes *)(weights + j * PANEL) - level);
            *(lanes *)(weights + j * PANEL) = weight, sum += weight, mean += weight * *(lanes *)(grads + j * PANEL);
        }
        lanes whole_sum = chosen(sum == 0, sum + 1, sum), off = whole_sum - 1;
        mean = mean / whole_sum - more;
        if (total(off * off) > ROUNDED)
            for (int64_t j = 0; j < keys; j++) *(lanes *)(weights + j * PANEL) /= whole_sum;
        for (int64_t j = 0; j < keys; j++)
            *(lanes *)(grads + j * PANEL) = *(lanes *)(weights + j * PANEL) * (*(lanes *)(grads + j * PANEL) - mean);
    }
    set_product(scratch->grads, 1, PANEL, k.at + s->lo * k.row, k.row, keys, scratch->product, k_pitch, s->count,
        k_pitch / LANES);
    for (int64_t i = 0; i < s->count; i++)
        write_row(g, scratch->product + i * k_pitch, g->width, (float)g->scale,
            g->grad_q + ((item->row + s->first + i) * g->heads + item->head) * g->width);
    Rows rows = whole_rows(q, g->q_row, g->q_one, s->count, g->width, scratch->q);
    add_product(scratch->grads, PANEL, 1, rows.at, rows.row, s->count, scratch->grad_k + s->lo * k_pitch, k_pitch, keys,
        k_pitch / LANES);
    rows = whole_rows(grad, g->grad_row, g->grad_one, s->count, g->value_width, scratch->grad);
    add_product(scratch->weights, PANEL, 1, rows.at, rows.row, s->count, scratch->grad_v + s->lo * v_pitch, v_pitch,
        keys,
        v_pitch / LANES);
}

/* All heads of a sequence that share their keys. */
static void attend(Call *g, Scratch *scratch, int64_t sequence, int64_t group) {
    int64_t share = g->heads / g->groups, k_pitch = round_up(g->width), v_pitch = round_up(g->value_width);
    Item item = {.row = g->offsets[sequence], .key = g->key_offsets[sequence], .group = group};
    item.n = g->offsets[sequence + 1] - item.row, item.m = g->key_offsets[sequence + 1] - item.key;
    item.k = g->k + item.key * g->k_row + group * g->k_head, item.v = g->v + item.key * g->v_row + group * g->v_head;
    Rows rows = g->backward ? whole_rows(item.k, g->k_row, g->k_one, item.m, g->width, scratch->k)
                            : whole_rows(item.v, g->v_row, g->v_one, item.m, g->value_width, scratch->v);
    if (g->backward) {
        memset(scratch->grad_k, 0, item.m * k_pitch * sizeof(float));
        memset(scratch->grad_v, 0, item.m * v_pitch * sizeof(float));
    }
    for (item.head = group * share; item.head < (group + 1) * share; item.head++) {
        item.q = g->q + item.row * g->q_row + item.head * g->q_head;
        item.grad = g->grad + item.row * g->grad_row + item.head * g->grad_head;
        for (int64_t i = 0; i < item.n; i += PANEL) {
            Strip s = strip_of(g, &item, i);
            if (g->backward) strip_backward(g, &item, &s, rows, scratch);
            else strip_forward(g, &item, &s, rows, scratch);
        }
    }
    for (int64_t j = 0; g->backward && j < item.m; j++) {
        int64_t place = (item.key + j) * g->groups + group;
        write_row(g, scratch->grad_k + j * k_pitch, g->width, (float)g->scale, g->grad_k + place * g->width);
        write_row(g, scratch->grad_v + j * v_pitch, g->value_width, 1, g->grad_v + place * g->value_width);
    }
}

/* Work of each thread: takes `grain` tasks at a time, the last first, where sorted packs have their longest. */
static void work(void *call) {
    Call *g = call;
    int64_t wide = round_up(g->width), value = round_up(g->value_width), longest = g->longest, taken = 0;
    int64_t sizes[] = {wide * PANEL, value * PANEL, longest * PANEL, longest * PANEL, wide * PANEL, value * PANEL,
        most(wide, value) * PANEL, longest * wide, longest * value, longest * wide, longest * value};
    Scratch scratch;
    for (int i = 0; i < 11; i++) taken += sizes[i];
    float *memory = aligned(taken * sizeof(float) + 64), *at = memory;
    if (!memory) {
        __atomic_store_n(&g->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    float **parts[] = {&scratch.across, &scratch.grad_across, &scratch.weights, &scratch.grads, &scratch.q,
        &scratch.grad, &scratch.product,
        &scratch.k, &scratch.v, &scratch.grad_k, &scratch.grad_v};
    for (int i = 0; i < 11; i++) *parts[i] = at, at += sizes[i];
    int64_t tasks = g->sequences * g->groups;
    for (;;) {
        int64_t from = __atomic_fetch_add(&g->next, g->grain, __ATOMIC_RELAXED);
        if (from >= tasks) break;
        for (int64_t i = from; i < least(from + g->grain, tasks); i++)
            attend(g, &scratch, (tasks - 1 - i) / g->groups, (tasks - 1 - i) % g->groups);
    }
    free(memory);
}

/* Runs one call, forward or backward; `parallel` is GOMP_parallel. Returns 0, or 1 if there is no memory. */
int sightline_attend(Call *g, void (*parallel)(void (*)(void *), void *, unsigned, unsigned), unsigned threads) {
    if (threads > 1) parallel(work, g, threads, 0);
    else work(g);
    return (int)g->failed;
}
