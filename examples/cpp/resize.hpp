// Pillow's antialiased bicubic resize of 8-bit pixels. OpenCV's INTER_CUBIC is another filter (a = -0.75) and does
// not antialias: with it the network sees another picture.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace pillow {

using Pixels = std::vector<std::uint8_t>;
constexpr int precision_bits = 22;  // weights are fixed-point, as in Pillow's Resample.c

inline double cubic(double x) {
    constexpr double a = -0.5;
    x = std::abs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// The weights of the inputs first, first + 1, ... of output `index`, adding up to 1 << precision_bits.
inline std::vector<int> weights(int index, int size, int target, int& first) {
    const double scale = double(size) / target, stretch = std::max(scale, 1.0), support = 2 * stretch;
    const double centre = (index + 0.5) * scale;
    first = std::max(0, int(centre - support + 0.5));
    const int last = std::min(size, int(centre + support + 0.5));
    std::vector<double> exact(last - first);
    double sum = 0;
    for (int i = first; i < last; ++i) sum += exact[i - first] = cubic((i - centre + 0.5) * (1 / stretch));
    std::vector<int> fixed;
    for (double weight : exact) fixed.push_back(int(std::lround(weight / sum * (1 << precision_bits))));
    return fixed;
}

// Resize the middle axis of (outer, size, inner) to (outer, target, inner), rounding to whole grey levels.
inline Pixels resize_axis(const Pixels& pixels, int outer, int size, int inner, int target) {
    Pixels resized(std::size_t(outer) * target * inner);
    for (int index = 0; index < target; ++index) {
        int first;
        const std::vector<int> fixed = weights(index, size, target, first);
        for (int o = 0; o < outer; ++o) {
            const std::uint8_t* from = &pixels[(std::size_t(o) * size + first) * inner];
            std::uint8_t* to = &resized[(std::size_t(o) * target + index) * inner];
            for (int i = 0; i < inner; ++i) {
                int sum = 1 << (precision_bits - 1);
                for (std::size_t k = 0; k < fixed.size(); ++k) sum += from[k * inner + i] * fixed[k];
                to[i] = std::uint8_t(std::clamp(sum >> precision_bits, 0, 255));
            }
        }
    }
    return resized;
}

// Pillow 13 begins with the rows where the height shrinks most; before, the columns always came first. The order
// decides where rounding and clipping fall: up to 3 grey levels on photographs, up to 20 on noise.
inline bool rows_first(int height, int width, int new_height, int new_width, int pillow_version) {
    const int less_height = height - new_height, less_width = width - new_width;
    return pillow_version >= 13 && less_height > 0 && less_height > 2 * less_width;
}

// (height, width, channels) to (new_height, new_width, channels), as the given Pillow does it. No channel may be
// alpha, which Pillow multiplies in first.
inline Pixels resize(const Pixels& pixels, int height, int width, int channels, int new_height, int new_width,
                     int pillow_version = 13) {
    if (std::min({height, width, channels, new_height, new_width}) < 1 ||
        pixels.size() != std::size_t(height) * width * channels)
        throw std::invalid_argument("pixels must be height * width * channels bytes, all sizes at least 1");
    if (rows_first(height, width, new_height, new_width, pillow_version)) {
        const Pixels low = resize_axis(pixels, 1, height, width * channels, new_height);
        return resize_axis(low, new_height, width, channels, new_width);
    }
    const Pixels narrow = resize_axis(pixels, height, width, channels, new_width);
    return resize_axis(narrow, 1, height, new_width * channels, new_height);
}

}  // namespace pillow
