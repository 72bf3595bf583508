//! The kernels of blocks: one source, and the registers of each instruction set.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use corekit_base::array::{Ahead, Rows};
    use corekit_base::real::Real;
    use corekit_base::simd::Level;

    use super::super::{Blocks, ROWS, Table, tile_stride};
    use crate::law::WIDEST;

    /// Some lanes of a group in registers.
    ///
    /// # Safety
    /// The functions need the instruction set that the type is of, and pointers to as many elements
    /// (bytes, for `order`) as there are lanes.
    trait Lanes<T>: Copy {
        const LANES: usize;
        /// Which lane goes where, and ±1 for each.
        type Order: Copy;
        // SAFETY (of all four): as the trait demands.
        unsafe fn load(from: *const T) -> Self;
        unsafe fn store(self, to: *mut T);
        unsafe fn order(lanes: *const u8) -> Self::Order;
        /// `self` plus the permuted and signed lanes at `from`. A product with ±1 is exact, so the
        /// sum is rounded once, as an addition is.
        unsafe fn add(self, from: *const T, order: Self::Order) -> Self;
    }

    #[derive(Clone, Copy)]
    struct Zmm32(__m512);

    impl Lanes<f32> for Zmm32 {
        const LANES: usize = 16;
        type Order = (__m512i, __m512);
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as the trait demands; no alignment is needed.
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as the trait demands; no alignment is needed.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn order(lanes: *const u8) -> Self::Order {
            // SAFETY: sixteen bytes, as the trait demands.
            unsafe {
                let wide = _mm512_cvtepu8_epi32(_mm_loadu_si128(lanes.cast()));
                let sign =
                    _mm512_and_si512(_mm512_slli_epi32::<24>(wide), _mm512_set1_epi32(i32::MIN));
                let one = _mm512_castps_si512(_mm512_set1_ps(1.0));
                (wide, _mm512_castsi512_ps(_mm512_or_si512(sign, one)))
            }
        }
        #[inline(always)]
        unsafe fn add(self, from: *const f32, (lanes, signs): Self::Order) -> Self {
            // SAFETY: as the trait demands. The permutation takes the low four bits.
            unsafe {
                let permuted = _mm512_permutexvar_ps(lanes, _mm512_loadu_ps(from));
                Self(_mm512_fmadd_ps(permuted, signs, self.0))
            }
        }
    }

    #[derive(Clone, Copy)]
    struct Ymm32(__m256);

    impl Lanes<f32> for Ymm32 {
        const LANES: usize = 8;
        type Order = (__m256i, __m256);
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as the trait demands; no alignment is needed.
            Self(unsafe { _mm256_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as the trait demands; no alignment is needed.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn order(lanes: *const u8) -> Self::Order {
            // SAFETY: eight bytes, as the trait demands.
            unsafe {
                let wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(lanes.cast()));
                let sign =
                    _mm256_and_si256(_mm256_slli_epi32::<24>(wide), _mm256_set1_epi32(i32::MIN));
                let one = _mm256_castps_si256(_mm256_set1_ps(1.0));
                (wide, _mm256_castsi256_ps(_mm256_or_si256(sign, one)))
            }
        }
        #[inline(always)]
        unsafe fn add(self, from: *const f32, (lanes, signs): Self::Order) -> Self {
            // SAFETY: as the trait demands. The permutation takes the low three bits.
            unsafe {
                let permuted = _mm256_permutevar8x32_ps(_mm256_loadu_ps(from), lanes);
                Self(_mm256_fmadd_ps(permuted, signs, self.0))
            }
        }
    }

    #[derive(Clone, Copy)]
    struct Zmm64(__m512d);

    impl Lanes<f64> for Zmm64 {
        const LANES: usize = 8;
        type Order = (__m512i, __m512d);
        #[inline(always)]
        unsafe fn load(from: *const f64) -> Self {
            // SAFETY: as the trait demands; no alignment is needed.
            Self(unsafe { _mm512_loadu_pd(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f64) {
            // SAFETY: as the trait demands; no alignment is needed.
            unsafe { _mm512_storeu_pd(to, self.0) }
        }
        #[inline(always)]
        unsafe fn order(lanes: *const u8) -> Self::Order {
            // SAFETY: eight bytes, as the trait demands.
            unsafe {
                let wide = _mm512_cvtepu8_epi64(_mm_loadl_epi64(lanes.cast()));
                let sign =
                    _mm512_and_si512(_mm512_slli_epi64::<56>(wide), _mm512_set1_epi64(i64::MIN));
                let one = _mm512_castpd_si512(_mm512_set1_pd(1.0));
                (wide, _mm512_castsi512_pd(_mm512_or_si512(sign, one)))
            }
        }
        #[inline(always)]
        unsafe fn add(self, from: *const f64, (lanes, signs): Self::Order) -> Self {
            // SAFETY: as the trait demands. The permutation takes the low three bits.
            unsafe {
                let permuted = _mm512_permutexvar_pd(lanes, _mm512_loadu_pd(from));
                Self(_mm512_fmadd_pd(permuted, signs, self.0))
            }
        }
    }

    /// Eight lanes in two registers: lanes 0-3 and 4-7.
    #[derive(Clone, Copy)]
    struct TwoYmm64([__m256d; 2]);

    /// For each half of the result: which halves of doubles it takes (as of eight floats, from
    /// either register), whether from the upper register, and ±1.
    #[derive(Clone, Copy)]
    struct TwoOrders([(__m256i, __m256d, __m256d); 2]);

    impl Lanes<f64> for TwoYmm64 {
        const LANES: usize = 8;
        type Order = TwoOrders;
        #[inline(always)]
        unsafe fn load(from: *const f64) -> Self {
            // SAFETY: as the trait demands; no alignment is needed.
            Self(unsafe { [_mm256_loadu_pd(from), _mm256_loadu_pd(from.add(4))] })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f64) {
            // SAFETY: as the trait demands; no alignment is needed.
            unsafe {
                _mm256_storeu_pd(to, self.0[0]);
                _mm256_storeu_pd(to.add(4), self.0[1]);
            }
        }
        #[inline(always)]
        unsafe fn order(lanes: *const u8) -> Self::Order {
            // SAFETY: eight bytes, as the trait demands; four are read at a time.
            TwoOrders([0, 4].map(|half| unsafe {
                let four = _mm_cvtsi32_si128(lanes.add(half).cast::<i32>().read_unaligned());
                let wide = _mm256_cvtepu8_epi64(four);
                // Lane l of a register of doubles is the floats 2l and 2l + 1.
                let even = _mm256_slli_epi64::<1>(_mm256_and_si256(wide, _mm256_set1_epi64x(3)));
                let odd = _mm256_slli_epi64::<32>(_mm256_add_epi64(even, _mm256_set1_epi64x(1)));
                // The sign bit of a double chooses in a blend.
                let upper = _mm256_castsi256_pd(_mm256_slli_epi64::<61>(wide));
                let sign =
                    _mm256_and_si256(_mm256_slli_epi64::<56>(wide), _mm256_set1_epi64x(i64::MIN));
                let one = _mm256_castpd_si256(_mm256_set1_pd(1.0));
                let signs = _mm256_castsi256_pd(_mm256_or_si256(sign, one));
                (_mm256_or_si256(even, odd), upper, signs)
            }))
        }
        #[inline(always)]
        unsafe fn add(self, from: *const f64, order: Self::Order) -> Self {
            // SAFETY: as the trait demands.
            unsafe {
                let low = _mm256_castpd_ps(_mm256_loadu_pd(from));
                let high = _mm256_castpd_ps(_mm256_loadu_pd(from.add(4)));
                let [a, b] = order.0;
                let half = |sums: __m256d, (floats, upper, signs): (__m256i, __m256d, __m256d)| {
                    let permuted = _mm256_blendv_pd(
                        _mm256_castps_pd(_mm256_permutevar8x32_ps(low, floats)),
                        _mm256_castps_pd(_mm256_permutevar8x32_ps(high, floats)),
                        upper,
                    );
                    _mm256_fmadd_pd(permuted, signs, sums)
                };
                Self([half(self.0[0], a), half(self.0[1], b)])
            }
        }
    }

    /// Does what `accumulate_plainly` does, `R` rows at a time.
    ///
    /// # Safety
    /// The instruction set of `L`, and what `check` asserts.
    #[inline(always)]
    unsafe fn accumulate<T: Real, L: Lanes<T>, const R: usize>(
        table: &Table,
        (tile, tile_stride): (*const T, isize),
        (sums, stride): (*mut T, usize),
        ahead: &mut Ahead,
    ) {
        let width = table.width;
        // As many lines for each item as use all of them up.
        let loops = table.items.len() * width / L::LANES;
        let more_asks = (ahead.len().div_ceil(loops.max(1))).saturating_sub(1);
        let mut items = table.items.as_slice();
        for run in &table.runs {
            let (ours, others) = items.split_at(run.items as usize);
            items = others;
            for part in (0..width).step_by(L::LANES) {
                // SAFETY: the group is inside a row of sums, the block inside a row of the tile,
                // and the lanes from `part` on are those of one item.
                unsafe {
                    let group = sums.add(run.start as usize + part);
                    let mut held: [L; R] = std::array::from_fn(|r| L::load(group.add(r * stride)));
                    for item in ours {
                        ahead.ask();
                        (0..more_asks).for_each(|_| ahead.ask());
                        let lanes = item.lanes.as_ptr().add(part);
                        // Half a block goes to half a group, straight or exchanged.
                        let half = if L::LANES < width {
                            usize::from(*lanes & 8)
                        } else {
                            0
                        };
                        let block = tile.add(item.offset as usize + half);
                        let order = L::order(lanes);
                        for (r, held) in held.iter_mut().enumerate() {
                            let from = block.offset(r as isize * tile_stride);
                            *held = held.add(from, order);
                        }
                    }
                    for (r, held) in held.into_iter().enumerate() {
                        held.store(group.add(r * stride));
                    }
                }
            }
        }
    }

    macro_rules! of_level {
        ($name:ident, $features:literal, $type:ty, $lanes:ty) => {
            /// All rows of a tile; see `accumulate`.
            #[target_feature(enable = $features)]
            unsafe fn $name(
                table: &Table,
                tile: Rows<'_, $type>,
                sums: &mut [$type],
                stride: usize,
                mut ahead: Ahead,
            ) {
                let sums = sums.as_mut_ptr();
                let to = |row: usize| (sums.wrapping_add(row * stride), stride);
                // SAFETY: as the caller says, from each row on.
                unsafe {
                    if tile.rows() < ROWS {
                        for row in 0..tile.rows() {
                            let from = (tile.row(row), 0);
                            accumulate::<_, $lanes, 1>(table, from, to(row), &mut ahead);
                        }
                    } else if tile.stride() == tile_stride::<$type>() as isize {
                        // A constant needs no registers.
                        let from = (tile.row(0), const { tile_stride::<$type>() as isize });
                        accumulate::<_, $lanes, ROWS>(table, from, to(0), &mut ahead);
                    } else {
                        let from = (tile.row(0), tile.stride());
                        accumulate::<_, $lanes, ROWS>(table, from, to(0), &mut ahead);
                    }
                }
            }
        };
    }

    of_level!(
        zmm32,
        "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma",
        f32,
        Zmm32
    );
    of_level!(ymm32, "avx2,fma", f32, Ymm32);
    of_level!(
        zmm64,
        "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma",
        f64,
        Zmm64
    );
    of_level!(ymm64, "avx2,fma", f64, TwoYmm64);

    /// Copies rows, a line of each in turn: for whole rows the compiler would call the C library's
    /// copy, whose string instruction takes twice as long when rows begin within a line.
    #[target_feature(enable = "avx512f")]
    fn copy_lines<T: Blocks>(from: Rows<'_, T>, tile: &mut [T]) {
        let line = 64 / size_of::<T>();
        let whole = from.columns() / line * line;
        for column in (0..whole).step_by(line) {
            for row in 0..from.rows() {
                // SAFETY: a line that is inside of the row, and of the tile (`copy`).
                unsafe {
                    let values = _mm512_loadu_si512(from.row(row).add(column).cast());
                    let to = tile.as_mut_ptr().add(row * tile_stride::<T>() + column);
                    _mm512_storeu_si512(to.cast(), values);
                }
            }
        }
        for row in 0..from.rows() {
            for column in whole..from.columns() {
                tile[row * tile_stride::<T>() + column] = from.get(row, column);
            }
        }
    }

    pub(in super::super) fn copy<T: Blocks>(level: Level, from: Rows<'_, T>, tile: &mut [T]) {
        assert!(level == Level::Avx512 && level <= Level::detect());
        let stride = tile_stride::<T>();
        assert!(from.columns() <= stride && from.rows() * stride <= tile.len());
        // SAFETY: the machine has the level.
        unsafe { copy_lines(from, tile) }
    }

    /// Panics unless all that the table names is inside of the tile and of the sums.
    fn check<T: Copy>(level: Level, table: &Table, tile: Rows<'_, T>, sums: &[T], stride: usize) {
        assert!(level <= Level::detect(), "a level that the machine has");
        assert!(
            table.width == 8 || table.width == WIDEST,
            "blocks of 8 or 16"
        );
        assert!(table.features <= tile.columns() && table.outputs <= stride);
        assert!(tile.rows() <= ROWS && tile.rows() * stride <= sums.len());
    }

    pub(in super::super) fn accumulate_f32(
        level: Level,
        table: &Table,
        tile: Rows<'_, f32>,
        sums: &mut [f32],
        stride: usize,
        ahead: Ahead,
    ) {
        check(level, table, tile, sums, stride);
        // SAFETY: the machine has the level, and all places were checked.
        unsafe {
            if level == Level::Avx512 && table.width == WIDEST {
                zmm32(table, tile, sums, stride, ahead);
            } else {
                ymm32(table, tile, sums, stride, ahead);
            }
        }
    }

    pub(in super::super) fn accumulate_f64(
        level: Level,
        table: &Table,
        tile: Rows<'_, f64>,
        sums: &mut [f64],
        stride: usize,
        ahead: Ahead,
    ) {
        check(level, table, tile, sums, stride);
        // SAFETY: the machine has the level, and all places were checked.
        unsafe {
            if level == Level::Avx512 {
                zmm64(table, tile, sums, stride, ahead);
            } else {
                ymm64(table, tile, sums, stride, ahead);
            }
        }
    }
}
