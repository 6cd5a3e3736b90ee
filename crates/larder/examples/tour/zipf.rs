//! The choice of keys: a few are asked for often, most of them rarely.

/// The Zipf distribution over the ranks 1 to `n`: rank k comes with a probability proportional to 1
/// / k^s.
pub(crate) struct Zipf {
    /// The probability of each rank and all before it.
    cumulative: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(n: u32, s: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=n)
            .map(|rank| {
                sum += f64::from(rank).powf(-s);
                sum
            })
            .collect();
        cumulative.iter_mut().for_each(|share| *share /= sum);
        Self { cumulative }
    }

    /// Draws a rank.
    pub(crate) fn draw(&self, random: &mut fastrand::Rng) -> usize {
        let drawn = random.f64();
        let before = self.cumulative.partition_point(|share| *share < drawn);
        (before + 1).min(self.cumulative.len())
    }
}
