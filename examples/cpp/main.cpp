// Find defects with a bundle's model.onnx (head "map") and nothing of ours: ONNX Runtime and OpenCV.
//
// acl_example bundle/model.onnx part.png [map.png]

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <stdexcept>
#include <string>

#include "resize.hpp"

// An image file as (S, S, 3) uint8 RGB, squashed to a square; the EXIF orientation is ignored, alpha is dropped.
static pillow::Pixels load_rgb(const std::string& path, int side) {
    cv::Mat frame = cv::imread(path, cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION);
    if (frame.empty()) throw std::runtime_error(path + ": is not an image; check the name");
    cv::cvtColor(frame, frame, cv::COLOR_BGR2RGB);
    const pillow::Pixels pixels(frame.datastart, frame.dataend);
    return pillow::resize(pixels, frame.rows, frame.cols, 3, side, side);
}

static void inspect(const std::filesystem::path& model, const std::string& image, const std::string& output) {
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR);
    Ort::Session session(env, model.c_str(), Ort::SessionOptions());
    const auto input = session.GetInputTypeInfo(0);
    const int side = int(input.GetTensorTypeAndShapeInfo().GetShape().at(1));  // (batch, S, S, 3)

    pillow::Pixels pixels = load_rgb(image, side);
    const std::array<std::int64_t, 4> shape{1, side, side, 3};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const auto images =
        Ort::Value::CreateTensor<std::uint8_t>(memory, pixels.data(), pixels.size(), shape.data(), shape.size());

    const char* inputs[] = {"images"};
    const char* outputs[] = {"image_logits", "anomaly_maps"};
    auto answers = session.Run(Ort::RunOptions(), inputs, &images, 1, outputs, 2);
    const double score = 1 / (1 + std::exp(-double(answers[0].GetTensorData<float>()[0])));
    const cv::Mat map(side, side, CV_32F, answers[1].GetTensorMutableData<float>());

    double peak;
    cv::Point at;  // in network pixels: multiply by width / S and height / S for pixels of the image
    cv::minMaxLoc(map, nullptr, &peak, nullptr, &at);
    std::printf("score %.6f, map peak %.6f at x %d, y %d of %d\n", score, peak, at.x, at.y, side);
    if (output.empty()) return;
    cv::Mat grey;
    map.convertTo(grey, CV_8U, 255);  // black for 0, white for 1
    if (!cv::imwrite(output, grey)) throw std::runtime_error(output + ": cannot be written; check the folder");
}

int main(int argc, char** argv) {
    if (argc != 3 && argc != 4) {
        std::fprintf(stderr, "usage: %s MODEL.onnx IMAGE [MAP.png]\n", argv[0]);
        return 2;
    }
    try {
        inspect(argv[1], argv[2], argc == 4 ? argv[3] : "");
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
