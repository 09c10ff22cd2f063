// Pillow's antialiased bicubic resize of 8-bit pixels. The resizers of .NET and OpenCV use other filters: with them the
// network sees another picture. A port of ../cpp/resize.hpp.

using System;

public static class PillowResize
{
    const int PrecisionBits = 22; // weights are fixed-point, as in Pillow's Resample.c

    // (height, width, channels) to (newHeight, newWidth, channels), as Pillow 13 does it, or an older one. No channel
    // may be alpha, which Pillow multiplies in first.
    public static byte[] Resize(byte[] pixels, int height, int width, int channels, int newHeight, int newWidth,
                                int pillowVersion = 13)
    {
        if (Math.Min(Math.Min(height, width), Math.Min(channels, Math.Min(newHeight, newWidth))) < 1
            || pixels.LongLength != (long)height * width * channels)
            throw new ArgumentException("pixels must be height * width * channels bytes, all sizes at least 1");
        if (RowsFirst(height, width, newHeight, newWidth, pillowVersion))
        {
            byte[] low = ResizeAxis(pixels, 1, height, width * channels, newHeight);
            return ResizeAxis(low, newHeight, width, channels, newWidth);
        }
        byte[] narrow = ResizeAxis(pixels, height, width, channels, newWidth);
        return ResizeAxis(narrow, 1, height, newWidth * channels, newHeight);
    }

    // Pillow 13 begins with the rows where the height shrinks most; before, the columns always came first.
    static bool RowsFirst(int height, int width, int newHeight, int newWidth, int pillowVersion)
    {
        int lessHeight = height - newHeight, lessWidth = width - newWidth;
        return pillowVersion >= 13 && lessHeight > 0 && lessHeight > 2 * lessWidth;
    }

    static double Cubic(double x)
    {
        const double a = -0.5;
        x = Math.Abs(x);
        if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
        return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    }

    // The weights of the inputs first, first + 1, ... of output `index`, adding up to 1 << PrecisionBits.
    static int[] Weights(int index, int size, int target, out int first)
    {
        double scale = (double)size / target, stretch = Math.Max(scale, 1.0), support = 2 * stretch;
        double centre = (index + 0.5) * scale;
        first = Math.Max(0, (int)(centre - support + 0.5));
        int last = Math.Min(size, (int)(centre + support + 0.5));
        double[] exact = new double[last - first];
        double sum = 0;
        for (int i = first; i < last; i++) sum += exact[i - first] = Cubic((i - centre + 0.5) * (1 / stretch));
        int[] whole = new int[exact.Length];
        for (int i = 0; i < exact.Length; i++)
            whole[i] = (int)Math.Round(exact[i] / sum * (1 << PrecisionBits), MidpointRounding.AwayFromZero);
        return whole;
    }

    // Resize the middle axis of (outer, size, inner) to (outer, target, inner), rounding to whole grey levels.
    static byte[] ResizeAxis(byte[] pixels, int outer, int size, int inner, int target)
    {
        byte[] resized = new byte[(long)outer * target * inner];
        for (int index = 0; index < target; index++)
        {
            int first;
            int[] weights = Weights(index, size, target, out first);
            for (int o = 0; o < outer; o++)
            {
                long from = ((long)o * size + first) * inner, to = ((long)o * target + index) * inner;
                for (int i = 0; i < inner; i++)
                {
                    int sum = 1 << (PrecisionBits - 1);
                    for (int k = 0; k < weights.Length; k++) sum += pixels[from + (long)k * inner + i] * weights[k];
                    resized[to + i] = (byte)Math.Max(0, Math.Min(255, sum >> PrecisionBits));
                }
            }
        }
        return resized;
    }
}
