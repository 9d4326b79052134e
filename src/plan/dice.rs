//! Chance, handed in as a number: the same dice make the same plan.

/// Random order of replicas with `-r`. The shell makes a new one for each plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dice(pub u64);

impl Dice {
    /// A number for one replica, evenly distributed over all dice.
    pub(super) fn throw(self, host: &[u8], path: &[u8]) -> u32 {
        // FNV-1a, so that each replica has a number of its own, mixed by the finalizer of SplitMix64.
        let fnv = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let mut sum = host.iter().chain(b":").chain(path).fold(self.0 ^ 0xcbf2_9ce4_8422_2325, fnv);
        sum = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        sum = (sum ^ (sum >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, c, d, ..] = (sum ^ (sum >> 31)).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_replica_comes_first_as_often_as_any_other() {
        let hosts = [&b"srv1"[..], b"srv2", b"srv3"];
        let mut first = [0; 3];
        for dice in (0..3000).map(Dice) {
            let least = (0..3).min_by_key(|n| dice.throw(hosts[*n], b"/x")).unwrap();
            first[least] += 1;
        }
        assert!(first.iter().all(|times| (800..1200).contains(times)), "{first:?}");
    }

    #[test]
    fn the_same_dice_give_the_same_numbers() {
        assert_eq!(Dice(7).throw(b"srv", b"/x"), Dice(7).throw(b"srv", b"/x"));
        assert_ne!(Dice(7).throw(b"srv", b"/x"), Dice(8).throw(b"srv", b"/x"));
        assert_ne!(Dice(7).throw(b"srv", b"/x"), Dice(7).throw(b"srv", b"/y"));
    }
}
