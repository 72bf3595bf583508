/* How many multiply-adds this machine can do: fma_peak LEVEL TYPE THREADS SECONDS
 *
 * LEVEL is avx512, avx2, neon, scalar or best, TYPE is float or double. All threads multiply and
 * add in registers for the given time, each with enough independent chains to hide the latency of
 * one; printed is the level and the number of floating-point operations a second of all threads
 * together, from the first start to the last end.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define MOST_THREADS 256
#define TIMES 20000 /* steps of all chains between two looks at the clock: some 0.1 ms */

/* Repeats X for every chain. 14 of AVX2's 16 registers, or of the others' 32, hold a chain each;
 * the rest hold the factor and the summand. 14 chains hide 7 cycles at two operations a cycle. */
#define CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13)
#define N_CHAINS 14

/* A kernel takes `TIMES` steps of all chains and gives back their sum, or they would be left out. */
#define KERNEL(name, features, number, vector, set, take)                                         \
    features static double name(double seed) {                                                    \
        vector factor = set((number)0.999999), summand = set((number)1e-6);                       \
        CHAINS(DECLARE_##name)                                                                    \
        for (int step = 0; step < TIMES; step++) {                                                \
            CHAINS(STEP_##name)                                                                   \
        }                                                                                         \
        vector sum = set((number)0);                                                              \
        CHAINS(SUM_##name)                                                                        \
        return take(sum);                                                                         \
    }

/* Without the barrier a compiler could see through a loop that always does the same. */
#define DECLARE(i, vector, set, number) vector chain##i = set((number)(seed + i));
#define STEP_X86(i, fma) chain##i = fma(chain##i, factor, summand); __asm__("" : "+x"(chain##i));
#define STEP_ZMM(i, fma) chain##i = fma(chain##i, factor, summand); __asm__("" : "+v"(chain##i));
#define STEP_ARM(i, fma) chain##i = fma(summand, chain##i, factor); __asm__("" : "+w"(chain##i));

#if defined(__x86_64__)
#define AVX512 __attribute__((target("avx512f")))
#define AVX2 __attribute__((target("avx2,fma")))

#define DECLARE_avx512_float(i) DECLARE(i, __m512, _mm512_set1_ps, float)
#define STEP_avx512_float(i) STEP_ZMM(i, _mm512_fmadd_ps)
#define SUM_avx512_float(i) sum = _mm512_add_ps(sum, chain##i);
KERNEL(avx512_float, AVX512, float, __m512, _mm512_set1_ps, _mm512_reduce_add_ps)

#define DECLARE_avx512_double(i) DECLARE(i, __m512d, _mm512_set1_pd, double)
#define STEP_avx512_double(i) STEP_ZMM(i, _mm512_fmadd_pd)
#define SUM_avx512_double(i) sum = _mm512_add_pd(sum, chain##i);
KERNEL(avx512_double, AVX512, double, __m512d, _mm512_set1_pd, _mm512_reduce_add_pd)

#define DECLARE_avx2_float(i) DECLARE(i, __m256, _mm256_set1_ps, float)
#define STEP_avx2_float(i) STEP_X86(i, _mm256_fmadd_ps)
#define SUM_avx2_float(i) sum = _mm256_add_ps(sum, chain##i);
KERNEL(avx2_float, AVX2, float, __m256, _mm256_set1_ps, _mm256_cvtss_f32)

#define DECLARE_avx2_double(i) DECLARE(i, __m256d, _mm256_set1_pd, double)
#define STEP_avx2_double(i) STEP_X86(i, _mm256_fmadd_pd)
#define SUM_avx2_double(i) sum = _mm256_add_pd(sum, chain##i);
KERNEL(avx2_double, AVX2, double, __m256d, _mm256_set1_pd, _mm256_cvtsd_f64)
#elif defined(__aarch64__)
#define DECLARE_neon_float(i) DECLARE(i, float32x4_t, vdupq_n_f32, float)
#define STEP_neon_float(i) STEP_ARM(i, vfmaq_f32)
#define SUM_neon_float(i) sum = vaddq_f32(sum, chain##i);
KERNEL(neon_float, , float, float32x4_t, vdupq_n_f32, vaddvq_f32)

#define DECLARE_neon_double(i) DECLARE(i, float64x2_t, vdupq_n_f64, double)
#define STEP_neon_double(i) STEP_ARM(i, vfmaq_f64)
#define SUM_neon_double(i) sum = vaddq_f64(sum, chain##i);
KERNEL(neon_double, , double, float64x2_t, vdupq_n_f64, vaddvq_f64)
#endif

typedef double Kernel(double seed);

static const struct {
    const char *level, *type;
    int lanes;
    Kernel *kernel;
} kernels[] = {
#if defined(__x86_64__)
    {"avx512", "float", 16, avx512_float},
    {"avx512", "double", 8, avx512_double},
    {"avx2", "float", 8, avx2_float},
    {"avx2", "double", 4, avx2_double},
#elif defined(__aarch64__)
    {"neon", "float", 4, neon_float},
    {"neon", "double", 2, neon_double},
#endif
    {NULL, NULL, 0, NULL},
};

static int has(const char *level) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (strcmp(level, "avx512") == 0) return __builtin_cpu_supports("avx512f") != 0;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return strcmp(level, "neon") == 0;
#endif
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static Kernel *chosen;
static double length;
static pthread_barrier_t start_line;

struct lane {
    pthread_t thread;
    double started, ended, sum;
    long rounds;
};

static void *run(void *argument) {
    struct lane *lane = argument;
    lane->sum = chosen(1.0); /* the first instructions of a width may be slow */
    pthread_barrier_wait(&start_line);
    lane->started = seconds();
    do {
        lane->sum += chosen(2.0);
        lane->rounds++;
        lane->ended = seconds();
    } while (lane->ended - lane->started < length);
    return NULL;
}

int main(int count, char **words) {
    if (count != 5) {
        fprintf(stderr, "usage: fma_peak LEVEL TYPE THREADS SECONDS\n");
        return 2;
    }
    int found = 0;
    while (kernels[found].kernel != NULL &&
           (strcmp(kernels[found].type, words[2]) != 0 || !has(kernels[found].level) ||
            (strcmp(words[1], "best") != 0 && strcmp(words[1], kernels[found].level) != 0)))
        found++;
    if (kernels[found].kernel == NULL) {
        fprintf(stderr, "this machine has no %s\n", words[1]);
        return 1;
    }
    int threads = atoi(words[3]);
    if (threads < 1 || threads > MOST_THREADS) {
        fprintf(stderr, "threads must be 1 to %d\n", MOST_THREADS);
        return 2;
    }
    chosen = kernels[found].kernel;
    length = atof(words[4]);
    static struct lane lanes[MOST_THREADS];
    pthread_barrier_init(&start_line, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) pthread_create(&lanes[i].thread, NULL, run, &lanes[i]);
    double rounds = 0, started = 0, ended = 0, sum = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(lanes[i].thread, NULL);
        rounds += (double)lanes[i].rounds;
        sum += lanes[i].sum;
        if (i == 0 || lanes[i].started < started) started = lanes[i].started;
        if (lanes[i].ended > ended) ended = lanes[i].ended;
    }
    double operations = rounds * TIMES * N_CHAINS * kernels[found].lanes * 2;
    printf("%s %.6g\n", kernels[found].level, operations / (ended - started));
    return sum == 0.12345; /* never so: the sum is used */
}
