// Find defects with a bundle's model.onnx (head "map") and nothing of ours: ONNX Runtime and StbImageSharp.
//
// dotnet run -- bundle/model.onnx part.png

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using StbImageSharp;

public static class Program
{
    public static int Main(string[] arguments)
    {
        if (arguments.Length != 2)
        {
            Console.Error.WriteLine("usage: acl_example MODEL.onnx IMAGE");
            return 2;
        }
        try
        {
            Inspect(arguments[0], arguments[1]);
        }
        catch (Exception error) when (error is IOException || error is OnnxRuntimeException || error is InvalidOperationException)
        {
            Console.Error.WriteLine(error.Message);
            return 1;
        }
        return 0;
    }

    static void Inspect(string model, string path)
    {
        using (InferenceSession session = new InferenceSession(model))
        {
            int side = session.InputMetadata["images"].Dimensions[1]; // (batch, S, S, 3)
            ImageResult image = ImageResult.FromMemory(File.ReadAllBytes(path), ColorComponents.RedGreenBlue);
            byte[] pixels = PillowResize.Resize(image.Data, image.Height, image.Width, 3, side, side);
            DenseTensor<byte> images = new DenseTensor<byte>(pixels, new[] { 1, side, side, 3 });
            NamedOnnxValue[] inputs = { NamedOnnxValue.CreateFromTensor("images", images) };
            using (IDisposableReadOnlyCollection<DisposableNamedOnnxValue> answers = session.Run(inputs))
            {
                float logit = answers.First(each => each.Name == "image_logits").AsEnumerable<float>().First();
                float[] map = answers.First(each => each.Name == "anomaly_maps").AsEnumerable<float>().ToArray();
                int at = Array.IndexOf(map, map.Max()); // in network pixels: scale by width / S and height / S
                FormattableString line =
                    $"score {1 / (1 + Math.Exp(-logit)):F6}, map peak {map[at]:F6} at x {at % side}, y {at / side} of {side}";
                Console.WriteLine(FormattableString.Invariant(line));
            }
        }
    }
}
