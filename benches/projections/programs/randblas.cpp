// Project by RandBLAS: INPUT.npy OUTPUT ROWS COLUMNS COMPONENTS NONZEROS THREADS
//
// The input is a C-ordered float32 array. It prints its name and version, then answers every line
// of standard input by the seconds that it took: "fit SEED" draws the matrix, "sketch" projects,
// "write" writes the result as plain float32. 

#include <RandBLAS.hh>
#include <omp.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

using Operator = RandBLAS::SparseSkOp<float>;

int main(int argc, char **argv) {
    if (argc != 8) {
        std::cerr << "seven arguments are needed\n";
        return 2;
    }
    const std::string target = argv[2];
    const int64_t rows = std::stoll(argv[3]), columns = std::stoll(argv[4]);
    const int64_t components = std::stoll(argv[5]), nonzeros = std::stoll(argv[6]);
    omp_set_num_threads(std::stoi(argv[7]));

    // The array is what stands at the end of the file, whatever the length of its header.
    const std::streamoff bytes = static_cast<std::streamoff>(sizeof(float)) * rows * columns;
    std::vector<float> x(rows * columns), y(rows * components);
    std::ifstream file(argv[1], std::ios::binary);
    file.seekg(-bytes, std::ios::end);
    if (!file.read(reinterpret_cast<char *>(x.data()), bytes)) {
        std::cerr << "the input could not be read\n";
        return 1;
    }
    std::cout << "RandBLAS " << RandBLAS_FULL_VERSION << std::endl;

    std::unique_ptr<Operator> sketch;
    std::string request;
    while (std::cin >> request) {
        const auto started = std::chrono::steady_clock::now();
        if (request == "fit") {
            uint32_t seed;
            std::cin >> seed;
            RandBLAS::SparseDist law(columns, components, nonzeros, RandBLAS::Axis::Short);
            sketch = std::make_unique<Operator>(law, RandBLAS::RNGState<>(seed));
            RandBLAS::fill_sparse(*sketch);
        } else if (request == "sketch") {
            const float scale = static_cast<float>(sketch->dist.isometry_scale);
            RandBLAS::sketch_general(
                blas::Layout::RowMajor, blas::Op::NoTrans, blas::Op::NoTrans, rows, components,
                columns, scale, x.data(), columns, *sketch, 0, 0, 0.0f, y.data(), components);
        } else {
            std::ofstream output(target, std::ios::binary | std::ios::trunc);
            output.write(reinterpret_cast<const char *>(y.data()), sizeof(float) * y.size());
        }
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - started;
        std::cout << taken.count() << std::endl;
    }
    return 0;
}
