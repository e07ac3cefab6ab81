// Images taken from one channel after the other to one pixel after the other.

// Each block moves a square of 32 channels and 32 pixels through shared memory, so that
// both reads and writes are of neighbours. Rows of 33: no two lanes use one bank.
extern "C" __global__ void to_channels_last(const float* __restrict__ x,
                                            unsigned channels, unsigned pixels,
                                            float* __restrict__ y) {
    __shared__ float square[WARP][WARP + 1];
    const unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const unsigned across = (pixels + WARP - 1) / WARP;
    const unsigned down = (channels + WARP - 1) / WARP;
    const unsigned pixel = blockIdx.x % across * WARP;
    const unsigned channel = blockIdx.x / across % down * WARP;
    const unsigned long long image =
        (unsigned long long)(blockIdx.x / across / down) * channels * pixels;
#pragma unroll
    for (unsigned k = warp; k < WARP; k += WARPS)
        if (channel + k < channels && pixel + lane < pixels)
            square[k][lane] = x[image + (channel + k) * pixels + pixel + lane];
    __syncthreads();
#pragma unroll
    for (unsigned k = warp; k < WARP; k += WARPS)
        if (channel + lane < channels && pixel + k < pixels)
            y[image + (pixel + k) * channels + channel + lane] = square[lane][k];
}
