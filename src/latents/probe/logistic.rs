//! Logistic regression with an L2 penalty, taken to its minimum.
//!
//! ```text
//! minimise   ½‖w‖² + C Σᵢ cᵢ log(1 + exp(−yᵢ (w·xᵢ + b)))      yᵢ = ±1, cᵢ the weight of yᵢ's class
//! ```
//!
//! This is scikit-learn's `LogisticRegression(C=C)`; the intercept `b` is not penalised, and
//! `class_weight="balanced"` gives each class half of the weight, `cᵢ = n / (2 n_class)`.
//!
//! # How
//!
//! Newton's method. Its Hessian `1 + C Xᵀ D X`, `D = diag(cᵢ pᵢ (1 − pᵢ))`, changes with every step
//! and would cost `n d²` each time; conjugate gradients need only its product with a vector,
//! `Xᵀ (D (X v))`, two passes over the rows. But coordinates of activations differ a hundredfold in
//! scale and hang together, and then hundreds of products are needed. So the Hessian at the start,
//! where every `pᵢ` is ½, is formed once, of no more rows than it takes to know how coordinates hang
//! together, and its Cholesky factor preconditions all products: some ten a step remain. Far from the
//! minimum they are cut short, near it they are solved ever more closely, which keeps Newton's speed
//! at the end. A step that does not lower the objective enough is halved. The factor takes `8 d²`
//! bytes: 34 MB for 2,048 coordinates.
//!
//! The objective is strictly convex but for `b`, which both classes hold in place: there is one
//! minimum, and no seed. Rows are f32, all sums f64 in a fixed order, so that it is found to the
//! same bits anywhere.

use crate::base::error::{Error, Result};
use crate::cpu::linear::{Factor, inner};
use crate::cpu::simd::vectorised;

/// Newton steps at most; some ten are taken.
const STEPS: usize = 100;

/// Products with the Hessian within a step, at most.
const PRODUCTS: usize = 500;

/// Rows of which the Hessian at the start is formed, at most, for each coordinate.
const ROWS_A_COORDINATE: usize = 4;

/// Rows that are added to it at once, so that they stay in the second-level cache.
const ROWS_AT_ONCE: usize = 64;

/// It ends when the last step promised to lower the objective by no more than this share of it.
const TOLERANCE: f64 = 1e-10;

/// A linear probe: it says yes where `weights · x + bias > 0`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Logistic {
    /// One for each coordinate of the input `[d]`.
    pub weights: Vec<f64>,
    /// The intercept.
    pub bias: f64,
}

/// How much the classes weigh in a [`Logistic`] regression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassWeight {
    /// Every row counts once.
    Even,
    /// Each class counts as half of the rows, however few they are.
    Balanced,
}

impl Logistic {
    /// Fits rows `x` `[n, d]` to their labels `[n]`: `c` is the inverse of the penalty, 1 in
    /// scikit-learn and in the published evaluations.
    ///
    /// ```
    /// use tokenized_sae::latents::probe::{ClassWeight, Logistic};
    ///
    /// let x = [-2.0, -1.0, 1.0, 2.0];
    /// let probe = Logistic::fit(&x, 1, &[false, false, true, true], 1.0, ClassWeight::Even)?;
    /// assert!(probe.score(&[0.5]) > 0.0 && probe.score(&[-0.5]) < 0.0);
    /// # Ok::<(), tokenized_sae::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one label for each row; [`Error::Config`] if `c` is not
    /// above 0 or all labels are alike; [`Error::NotFinite`] if `x` holds a NaN or an infinity.
    pub fn fit(x: &[f32], d: usize, labels: &[bool], c: f64, weight: ClassWeight) -> Result<Self> {
        let n = labels.len();
        if x.len() != n * d {
            let (want, got) = (vec![n, d], vec![x.len()]);
            return Err(Error::Shape { what: "rows of a probe".to_owned(), want, got });
        }
        if !(c > 0.0 && c.is_finite()) {
            return Err(Error::config("c", format!("c = {c}; it must be above 0")));
        }
        let positives = labels.iter().filter(|it| **it).count();
        if positives == 0 || positives == n {
            let why = format!("{positives} of {n} rows are of the class; a probe needs both kinds");
            return Err(Error::config("labels", why));
        }
        if let Some(at) = x.iter().position(|x| !x.is_finite()) {
            return Err(Error::NotFinite {
                what: "the input of a probe".to_owned(),
                value: x[at],
                at: format!("row {}, coordinate {}", at / d, at % d),
            });
        }
        let of_class = |it: bool| match weight {
            ClassWeight::Even => c,
            ClassWeight::Balanced if it => c * n as f64 / (2 * positives) as f64,
            ClassWeight::Balanced => c * n as f64 / (2 * (n - positives)) as f64,
        };
        let weights = labels.iter().map(|&it| of_class(it)).collect();
        let signs = labels.iter().map(|&it| if it { 1.0 } else { -1.0 }).collect();
        Ok(Problem { x, d, signs, weights }.minimum())
    }

    /// `weights · x + bias` of one row `[d]`: above 0 where the probe says yes.
    pub fn score(&self, x: &[f32]) -> f64 {
        dot(&self.weights, x) + self.bias
    }
}

struct Problem<'a> {
    x: &'a [f32], // [n, d]
    d: usize,
    signs: Vec<f64>,   // [n]
    weights: Vec<f64>, // [n], times C
}

/// The objective at a point, and what the next step needs of it.
struct Point {
    at: Vec<f64>, // [d + 1], the intercept last
    value: f64,
    gradient: Vec<f64>,  // [d + 1]
    curvature: Vec<f64>, // [n]
}

impl Problem<'_> {
    fn minimum(&self) -> Logistic {
        let mut now = self.point(vec![0.0; self.d + 1]);
        let factor = self.factor();
        let mut first = None;
        for _ in 0..STEPS {
            let length = factor.norm(&now.gradient);
            let first = *first.get_or_insert(length);
            if length == 0.0 {
                break;
            }
            let step = self.newton(&now, &factor, (length / first).sqrt().min(0.25) * length);
            let slope = -inner(&step, &now.gradient);
            let Some(next) = self.along(&now, &step, slope) else { break };
            now = next;
            if slope <= TOLERANCE * now.value {
                break;
            }
        }
        let bias = now.at.pop().unwrap_or_default();
        Logistic { weights: now.at, bias }
    }

    fn point(&self, at: Vec<f64>) -> Point {
        let (w, b) = (&at[..self.d], at[self.d]);
        let mut value = 0.5 * inner(w, w);
        let mut gradient = at.clone();
        gradient[self.d] = 0.0;
        let mut curvature = Vec::with_capacity(self.signs.len());
        for (i, x) in self.rows() {
            let (sign, weight) = (self.signs[i], self.weights[i]);
            let margin = sign * (dot(w, x) + b);
            // log(1 + e^−m) and 1 / (1 + e^m), which neither overflow nor cancel.
            let small = (-margin.abs()).exp();
            value += weight * ((-margin).max(0.0) + small.ln_1p());
            let wrong = if margin > 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) };
            add_scaled(&mut gradient, -sign * weight * wrong, x);
            curvature.push(weight * wrong * (1.0 - wrong));
        }
        Point { at, value, gradient, curvature }
    }

    fn rows(&self) -> impl Iterator<Item = (usize, &[f32])> {
        (0..self.signs.len()).map(|i| (i, &self.x[i * self.d..][..self.d]))
    }

    /// The factor of the Hessian at 0, as far as some rows, evenly spread, tell it.
    fn factor(&self) -> Factor {
        let (n, m) = (self.signs.len(), self.d + 1);
        let every = n.div_ceil(ROWS_A_COORDINATE * m);
        let rows: Vec<usize> = (0..n).step_by(every).collect();
        let mut hessian = vec![0.0; m * m]; // its lower triangle
        for at in 0..self.d {
            hessian[at * m + at] = 1.0;
        }
        for some in rows.chunks(ROWS_AT_ONCE) {
            for (at, line) in hessian.chunks_exact_mut(m).enumerate() {
                for &i in some {
                    let x = &self.x[i * self.d..][..self.d];
                    let weight = 0.25 * every as f64 * self.weights[i];
                    match x.get(at) {
                        Some(&own) => add(&mut line[..=at], weight * f64::from(own), &x[..=at]),
                        None => add_scaled(line, weight, x),
                    }
                }
            }
        }
        Factor::of(hessian, m)
    }

    /// The Hessian times `v`.
    fn product(&self, point: &Point, v: &[f64]) -> Vec<f64> {
        let mut out = v.to_vec();
        out[self.d] = 0.0;
        for (i, x) in self.rows() {
            let along = dot(&v[..self.d], x) + v[self.d];
            add_scaled(&mut out, point.curvature[i] * along, x);
        }
        out
    }

    /// The step at which the gradient of the quadratic model is at most `enough` long.
    fn newton(&self, point: &Point, factor: &Factor, enough: f64) -> Vec<f64> {
        let mut step = vec![0.0; self.d + 1];
        let mut left: Vec<f64> = point.gradient.iter().map(|g| -g).collect();
        let mut steepest = factor.solve(&left);
        let mut length = inner(&left, &steepest).sqrt();
        let mut direction = steepest.clone();
        for _ in 0..PRODUCTS {
            let product = self.product(point, &direction);
            let bend = inner(&direction, &product);
            // Rounding alone can leave none.
            if bend <= 0.0 {
                break;
            }
            let far = length * length / bend;
            step.iter_mut().zip(&direction).for_each(|(s, d)| *s += far * d);
            left.iter_mut().zip(&product).for_each(|(l, p)| *l -= far * p);
            steepest = factor.solve(&left);
            let shorter = inner(&left, &steepest).sqrt();
            if shorter <= enough {
                break;
            }
            let keep = (shorter / length).powi(2);
            direction.iter_mut().zip(&steepest).for_each(|(d, s)| *d = s + keep * *d);
            length = shorter;
        }
        step
    }

    /// The first point along a step, halved as often as needed, that lowers the objective by a
    /// ten-thousandth of what the slope promises; none if rounding hides any descent.
    fn along(&self, now: &Point, step: &[f64], slope: f64) -> Option<Point> {
        let mut share = 1.0;
        while share > 1e-9 {
            let at = now.at.iter().zip(step).map(|(at, step)| at + share * step).collect();
            let next = self.point(at);
            if next.value < now.value - 1e-4 * share * slope {
                return Some(next);
            }
            share *= 0.5;
        }
        None
    }
}

/// How many partial sums a product keeps.
const LANES: usize = 8;

vectorised! {
    /// `w · x` over the coordinates that both have.
    fn dot(w: &[f64], x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let (w_chunks, w_rest) = w.as_chunks::<LANES>();
        let (x_chunks, x_rest) = x.as_chunks::<LANES>();
        for (w, x) in w_chunks.iter().zip(x_chunks) {
            for lane in 0..LANES {
                lanes[lane] += w[lane] * f64::from(x[lane]);
            }
        }
        let rest = w_rest.iter().zip(x_rest).map(|(w, x)| w * f64::from(*x)).sum::<f64>();
        lanes.iter().sum::<f64>() + rest
    }
}

vectorised! {
    /// `y += a · [x, 1]`.
    fn add_scaled(y: &mut [f64], a: f64, x: &[f32]) {
        let (y, last) = y.split_at_mut(x.len());
        y.iter_mut().zip(x).for_each(|(y, x)| *y += a * f64::from(*x));
        last[0] += a;
    }
}

vectorised! {
    /// `y += a · x`.
    fn add(y: &mut [f64], a: f64, x: &[f32]) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += a * f64::from(*x));
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Rows whose coordinates differ a thousandfold in scale, and labels that they tell in part.
    fn rows(n: usize, d: usize, seed: u64) -> (Vec<f32>, Vec<bool>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut x = Vec::new();
        let mut labels = Vec::new();
        for _ in 0..n {
            let row: Vec<f32> = (0..d).map(|_| rng.random_range(-1.0..1.0)).collect();
            labels.push(row[0] + row[1] + rng.random_range(-1.0..1.0) > 0.4);
            x.extend(row.iter().enumerate().map(|(j, x)| x * 10f32.powi(j as i32 % 4 - 1) + 0.5));
        }
        (x, labels)
    }

    /// The gradient at the minimum, written down once more: coordinate by coordinate, in f64.
    fn naive_gradient(
        fit: &Logistic,
        x: &[f32],
        labels: &[bool],
        of: impl Fn(bool) -> f64,
    ) -> Vec<f64> {
        let d = fit.weights.len();
        let mut gradient = fit.weights.clone();
        gradient.push(0.0);
        for (i, &label) in labels.iter().enumerate() {
            let row = &x[i * d..][..d];
            let z = row.iter().zip(&fit.weights).map(|(x, w)| f64::from(*x) * w).sum::<f64>()
                + fit.bias;
            let error = of(label) * (1.0 / (1.0 + (-z).exp()) - f64::from(u8::from(label)));
            row.iter().enumerate().for_each(|(j, x)| gradient[j] += error * f64::from(*x));
            gradient[d] += error;
        }
        gradient
    }

    #[test]
    fn the_gradient_at_the_minimum_is_zero() {
        for (n, d, c) in [(60, 3, 1.0), (400, 21, 0.1), (50, 80, 10.0)] {
            let (x, labels) = rows(n, d, d as u64);
            let positives = labels.iter().filter(|it| **it).count() as f64;
            for weight in [ClassWeight::Even, ClassWeight::Balanced] {
                let fit = Logistic::fit(&x, d, &labels, c, weight).unwrap();
                let of = |label: bool| match (weight, label) {
                    (ClassWeight::Even, _) => c,
                    (_, true) => c * n as f64 / 2.0 / positives,
                    (_, false) => c * n as f64 / 2.0 / (n as f64 - positives),
                };
                let none = Logistic { weights: vec![0.0; d], bias: 0.0 };
                let longest = |fit| {
                    naive_gradient(fit, &x, &labels, of).iter().fold(0.0f64, |a, g| a.max(g.abs()))
                };
                assert!(longest(&fit) < 1e-5 * longest(&none), "{n} {d} {c} {}", longest(&fit));
            }
        }
    }

    #[test]
    fn a_factor_solves_what_it_was_made_of() {
        let matrix = [[4.0, 2.0, 0.4], [2.0, 5.0, 1.0], [0.4, 1.0, 3.0]];
        let want = [1.0, -2.0, 0.5];
        let b: Vec<f64> = matrix.iter().map(|row| inner(row, &want)).collect();
        let got = Factor::of(matrix.concat(), 3).solve(&b);
        assert!(got.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-12), "{got:?}");
    }

    #[test]
    fn one_number_and_even_classes_have_a_solution_by_hand() {
        // x = ±1 with labels by sign, half of them: w = n C σ(−w), b = 0.
        let x = [-1.0, 1.0, -1.0, 1.0];
        let fit =
            Logistic::fit(&x, 1, &[false, true, false, true], 1.0, ClassWeight::Even).unwrap();
        let w = fit.weights[0];
        assert!((w - 4.0 / (1.0 + w.exp())).abs() < 1e-7 && fit.bias.abs() < 1e-7, "{fit:?}");
    }

    #[test]
    fn what_cannot_be_fitted_is_refused_with_its_facts() {
        let fit = |x: &[f32], labels: &[bool], c| {
            Logistic::fit(x, 1, labels, c, ClassWeight::Even).unwrap_err().to_string()
        };
        assert!(fit(&[1.0, 2.0], &[true, true], 1.0).contains("2 of 2 rows are of the class"));
        assert!(fit(&[1.0], &[true, false], 1.0).contains("[2, 1]"));
        assert!(fit(&[1.0, f32::NAN], &[true, false], 1.0).contains("row 1, coordinate 0"));
        assert!(fit(&[1.0, 2.0], &[true, false], 0.0).contains("c = 0"));
    }
}
