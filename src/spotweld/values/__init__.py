"""Plain values that every room uses: durations, sizes, money, digests, offers, clocks."""
