//! The sequences of keys that are asked for, equal at every call.

const SEED: u64 = 7;

/// Every key as often as any other.
pub(crate) fn uniform(keys: u64, len: usize) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let keys = u32::try_from(keys).unwrap_or(u32::MAX);
    (0..len).map(|_| random.u32(0..keys)).collect()
}

/// Zipf's distribution: the key of rank k as often as 1 / k to the power of `exponent`. Ranks are
/// spread over the keys, so that keys which are asked for often do not lie side by side.
pub(crate) fn zipf(keys: u64, exponent: f64, len: usize) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let many = u32::try_from(keys).unwrap_or(u32::MAX);
    let mut order: Vec<u32> = (0..many).collect();
    random.shuffle(&mut order);
    let mut total = 0.0;
    let sums: Vec<f64> = (1..=many)
        .map(|rank| {
            total += f64::from(rank).powf(-exponent);
            total
        })
        .collect();
    (0..len)
        .map(|_| {
            let drawn = random.f64() * total;
            order[sums
                .partition_point(|sum| *sum < drawn)
                .min(order.len() - 1)]
        })
        .collect()
}

/// Zipf's distribution over the first half of the keys, and now and then a scan: as many keys of
/// the second half as the cache holds, one after the other, each once.
pub(crate) fn zipf_and_scans(keys: u64, capacity: u64, len: usize) -> Vec<u32> {
    let half = u32::try_from(keys / 2).unwrap_or(u32::MAX);
    let scan = usize::try_from(capacity).unwrap_or(usize::MAX).min(len);
    let mut next_scanned = 0;
    let mut drawn = Vec::with_capacity(len);
    for part in zipf(keys / 2, 0.99, len).chunks(3 * scan) {
        drawn.extend_from_slice(part);
        drawn.extend((0..scan).map(|_| {
            next_scanned = (next_scanned + 1) % half;
            half + next_scanned
        }));
    }
    drawn.truncate(len);
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_rank_of_zipf_comes_as_often_as_it_should() {
        let drawn = zipf(1000, 1.0, 100_000);
        let mut counts = vec![0_u32; 1000];
        drawn.iter().for_each(|key| counts[*key as usize] += 1);
        let most = f64::from(*counts.iter().max().unwrap()) / 1e5;
        // 1 / H(1000) is 0.1336.
        assert!((most - 0.1336).abs() < 0.005, "{most}");
    }

    #[test]
    fn scans_ask_for_each_key_of_their_half_in_turn() {
        let drawn = zipf_and_scans(1000, 50, 1000);
        assert_eq!(drawn.len(), 1000);
        assert!(drawn[..150].iter().all(|key| *key < 500));
        assert_eq!(drawn[150..153], [501, 502, 503]);
    }
}
