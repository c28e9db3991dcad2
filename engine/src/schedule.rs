//! The learning rate and the bias corrections of each AdamW step, from the step's number alone. This module never uses
//! the platform's mathematical library: cosine and powers are made of additions, multiplications and divisions in f64,
//! in a fixed order, so that every machine gets the same `f32` values. It knows nothing of tensors.

/// Settings of the schedule: linear warm-up to the peak, then half a cosine down to a floor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Highest learning rate; finite, not negative.
    pub peak: f32,
    /// Steps of the warm-up; step t of them has the rate `peak * t / warmup`. May be 0.
    pub warmup: u32,
    /// Steps of the whole run, at least one; from this step on the rate is the floor.
    pub total: u32,
    /// The rate at the end as a part of the peak, in [0, 1].
    pub floor_ratio: f32,
    /// Decay of the first moment, in [0, 1).
    pub beta1: f32,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f32,
}

/// What one AdamW step needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepHyper {
    /// Learning rate.
    pub lr: f32,
    /// Bias correction of the first moment, `1 / (1 - beta1^age)`.
    pub c1: f32,
    /// Bias correction of the second moment, `1 / (1 - beta2^age)`.
    pub c2: f32,
}

/// Why a schedule is not usable.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The peak is not a learning rate.
    #[error("the peak learning rate {0} is not a finite number of at least 0")]
    Peak(f32),
    /// The run has no steps, or a longer warm-up than steps.
    #[error("{warmup} steps of warm-up do not fit into {total} steps (at least 1)")]
    Steps {
        /// Steps of the warm-up.
        warmup: u32,
        /// Steps of the run.
        total: u32,
    },
    /// The floor is not a part of the peak.
    #[error("the floor ratio {0} is not in [0, 1]")]
    Floor(f32),
    /// A decay is outside its range.
    #[error("the decays {beta1} and {beta2} are not both in [0, 1)")]
    Decay {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
    },
    /// Steps and ages count from 1.
    #[error(
        "step {step} with moments of age {age}: both count from 1, so the first step of a run is 1 and 1"
    )]
    Zero {
        /// Step asked for.
        step: u64,
        /// Age of the moments.
        age: u64,
    },
}

impl Schedule {
    /// Refuses settings that have no defined rate.
    ///
    /// # Errors
    /// [`ScheduleError`], of the first setting that is wrong.
    pub fn check(&self) -> Result<(), ScheduleError> {
        let Self { peak, warmup, total, floor_ratio, beta1, beta2 } = *self;
        if !peak.is_finite() || peak < 0.0 {
            return Err(ScheduleError::Peak(peak));
        }
        if total == 0 || warmup > total {
            return Err(ScheduleError::Steps { warmup, total });
        }
        if !(0.0..=1.0).contains(&floor_ratio) {
            return Err(ScheduleError::Floor(floor_ratio));
        }
        if !(0.0..1.0).contains(&beta1) || !(0.0..1.0).contains(&beta2) {
            return Err(ScheduleError::Decay { beta1, beta2 });
        }
        Ok(())
    }

    /// The values for step `step` of the run, counted from 1, with moments that are in their `age`-th step since they
    /// were zero: the same as `step` where moments are carried through the run, less where a round starts afresh.
    ///
    /// # Errors
    /// As [`Schedule::check`], and [`ScheduleError::Zero`].
    pub fn at(&self, step: u64, age: u64) -> Result<StepHyper, ScheduleError> {
        self.check()?;
        if step == 0 || age == 0 {
            return Err(ScheduleError::Zero { step, age });
        }
        Ok(StepHyper {
            lr: self.rate(step),
            c1: bias_correction(self.beta1, age),
            c2: bias_correction(self.beta2, age),
        })
    }

    fn rate(&self, step: u64) -> f32 {
        let (warmup, total) = (u64::from(self.warmup), u64::from(self.total));
        let (peak, floor) = (f64::from(self.peak), f64::from(self.floor_ratio));
        if step <= warmup {
            // both counts are below 2^32, so they are exact
            return (peak * (step as f64 / warmup as f64)) as f32;
        }
        if step >= total {
            return (peak * floor) as f32;
        }
        let progress = (step - warmup) as f64 / (total - warmup) as f64;
        let height = 0.5 * (1.0 + cos_pi(progress));
        (peak * (floor + (1.0 - floor) * height)) as f32
    }
}

/// `1 / (1 - beta^age)` in f64, rounded to f32. The power is by repeated squaring from the lowest bit of `age` up;
/// `beta` is in [0, 1), and taken as the f32 that the moments decay with.
fn bias_correction(beta: f32, age: u64) -> f32 {
    let (mut power, mut square, mut bits) = (1.0f64, f64::from(beta), age);
    while bits != 0 {
        if bits & 1 == 1 {
            power *= square;
        }
        square *= square;
        bits >>= 1;
    }
    (1.0 / (1.0 - power)) as f32
}

/// `cos(pi * x)` for x in [0, 1], within 1e-15.
///
/// With `y` the distance of x from the nearer end, `cos(pi y) = 1 - 2 sin^2(pi y / 2)`, where the sine's argument is
/// at most pi/4 and its Taylor series to the 17th power is exact to f64.
fn cos_pi(x: f64) -> f64 {
    let y = if x > 0.5 { 1.0 - x } else { x };
    let angle = y * std::f64::consts::FRAC_PI_2;
    let square = angle * angle;
    // 1 - a^2/(2 3) (1 - a^2/(4 5) (1 - ...)), innermost first
    let mut series = 1.0;
    for divisor in [272.0, 210.0, 156.0, 110.0, 72.0, 42.0, 20.0, 6.0] {
        series = 1.0 - square / divisor * series;
    }
    let sine = angle * series;
    let cosine = 1.0 - 2.0 * (sine * sine);
    if x > 0.5 { -cosine } else { cosine }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Schedule =
        Schedule { peak: 3e-3, warmup: 20, total: 600, floor_ratio: 0.1, beta1: 0.9, beta2: 0.95 };

    #[test]
    fn the_cosine_agrees_with_the_library() {
        let mut worst = 0f64;
        for i in 0..=100_000 {
            let x = f64::from(i) / 100_000.0;
            worst = worst.max((cos_pi(x) - (std::f64::consts::PI * x).cos()).abs());
        }
        assert!(worst < 1e-15, "{worst:e}");
        assert_eq!((cos_pi(0.0), cos_pi(1.0)), (1.0, -1.0));
        assert!(cos_pi(0.5).abs() < 1e-15);
    }

    #[test]
    fn a_run_warms_up_peaks_and_falls_to_the_floor() {
        let lr: Vec<f32> = (1..=700).map(|t| RUN.at(t, t).unwrap().lr).collect();
        assert_eq!(lr[0], (f64::from(3e-3f32) / 20.0) as f32);
        assert_eq!(lr[19], 3e-3);
        assert!(lr[..20].windows(2).all(|w| w[0] < w[1]));
        assert!(lr[19..600].windows(2).all(|w| w[0] > w[1]));
        let floor = (f64::from(3e-3f32) * f64::from(0.1f32)) as f32;
        assert!(lr[599..].iter().all(|&v| v == floor));
        // half way between the peak and the floor
        assert!((f64::from(lr[19 + 290]) - 3e-3 * 0.55).abs() < 1e-9);
        for t in 21..600u32 {
            let angle = std::f64::consts::PI * f64::from(t - 20) / 580.0;
            let want = 3e-3 * (0.1 + 0.9 * 0.5 * (1.0 + angle.cos()));
            assert!((f64::from(lr[t as usize - 1]) / want - 1.0).abs() < 2e-7);
        }
    }

    #[test]
    fn bias_corrections_agree_with_the_formula_and_tend_to_one() {
        for t in [1u64, 2, 3, 10, 63, 64, 1000] {
            let hyper = RUN.at(t, t).unwrap();
            let want = |beta: f32| 1.0 / (1.0 - f64::from(beta).powi(t as i32));
            assert!((f64::from(hyper.c1) / want(0.9) - 1.0).abs() < 1e-7);
            assert!((f64::from(hyper.c2) / want(0.95) - 1.0).abs() < 1e-7);
        }
        let old = RUN.at(u64::MAX, u64::MAX).unwrap();
        assert_eq!((old.c1, old.c2), (1.0, 1.0));
        let fresh = RUN.at(300, 1).unwrap();
        assert_eq!(fresh.lr, RUN.at(300, 300).unwrap().lr);
        assert!((fresh.c1 - 10.0).abs() < 1e-5 && (fresh.c2 - 20.0).abs() < 1e-4);
        let none = Schedule { beta1: 0.0, ..RUN };
        assert_eq!(none.at(1, 1).unwrap().c1, 1.0);
        let slow = Schedule { beta2: 0.999_999_94, ..RUN };
        assert!(slow.at(1, 1).unwrap().c2.is_finite());
    }

    #[test]
    fn known_steps_have_known_bits() {
        // from the formulas in 40-digit arithmetic; a machine that differs would train something else
        let bits = |t| {
            let hyper = RUN.at(t, t).unwrap();
            [hyper.lr.to_bits(), hyper.c1.to_bits(), hyper.c2.to_bits()]
        };
        let known = [
            [0x391d_4952, 0x411f_fffe, 0x419f_fffe],
            [0x3a89_a027, 0x3ff5_59a9, 0x4054_284e],
            [0x3b3c_6e4d, 0x3f80_00df, 0x3f80_c329],
            [0x399d_4bfa, 0x3f80_0000, 0x3f80_0000],
        ];
        assert_eq!([bits(1), bits(7), bits(100), bits(599)], known);
    }

    #[test]
    fn a_run_may_have_no_warm_up_or_nothing_else() {
        let sudden = Schedule { warmup: 0, ..RUN };
        assert!(sudden.at(1, 1).unwrap().lr < 3e-3 && sudden.at(1, 1).unwrap().lr > 2.99e-3);
        let only = Schedule { warmup: 600, ..RUN };
        assert_eq!(only.at(600, 600).unwrap().lr, 3e-3);
        assert!(only.at(601, 601).unwrap().lr < 3.1e-4);
        let flat = Schedule { floor_ratio: 1.0, ..RUN };
        assert_eq!(flat.at(450, 450).unwrap().lr, 3e-3);
        let longest = Schedule { warmup: 0, total: u32::MAX, ..RUN };
        assert!(longest.at(u64::from(u32::MAX) - 1, 1).unwrap().lr > 0.0);
    }

    #[test]
    fn impossible_settings_are_refused() {
        let cases = [
            (Schedule { peak: f32::NAN, ..RUN }, "peak"),
            (Schedule { peak: -1.0, ..RUN }, "peak"),
            (Schedule { total: 0, warmup: 0, ..RUN }, "fit into 0"),
            (Schedule { total: 10, ..RUN }, "20 steps of warm-up"),
            (Schedule { floor_ratio: 1.5, ..RUN }, "1.5"),
            (Schedule { beta1: 1.0, ..RUN }, "decays"),
            (Schedule { beta2: f32::NAN, ..RUN }, "decays"),
        ];
        for (schedule, word) in cases {
            let error = schedule.at(1, 1).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        assert_eq!(RUN.at(0, 1), Err(ScheduleError::Zero { step: 0, age: 1 }));
        assert_eq!(RUN.at(1, 0), Err(ScheduleError::Zero { step: 1, age: 0 }));
    }
}
